"""The use case behind ``moe-router train``: find the data, describe the run, have it trained."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from attrs import field, frozen

from application.ports import RouterTrainer, TrainingObserver, TrainJob, TrainReport
from application.training.data_paths import DEFAULT_ROUTER, training_paths
from domain.training import TrainOptions
from domain.turns import TurnChoice


@frozen
class TrainRouterRequest:
    """What to train on and where to put it; None leaves it to the environment and the defaults.

    Attributes:
        options: how to train.
        dataset_dir: folder with ``train.jsonl`` and ``val.jsonl``.
        data_path: file of training rows; goes before `dataset_dir`.
        eval_data_path: file of validation rows; goes before `dataset_dir`.
        base_model: hub id or folder of the base model.
        router_out: where the router goes.
        log_dir: folder for the metrics of all runs; None for no metrics.
        out_of_scope: file of prompts that belong to no adapter, to fit abstention to.
        use_cache: whether the feature cache may be used.
        turn: which human turns of a conversation the rows were made of; None for what the data set says of itself.
    """

    options: TrainOptions = field(factory=TrainOptions)
    dataset_dir: Path | None = None
    data_path: Path | None = None
    eval_data_path: Path | None = None
    base_model: str | None = None
    router_out: Path | None = None
    log_dir: Path | None = None
    out_of_scope: Path | None = None
    use_cache: bool = True
    turn: TurnChoice | None = None


@frozen
class TrainRouter:
    """Trains a router wherever its trainer trains.

    Attributes:
        trainer: does the work, here or elsewhere.
        environment: environment variables: ``TRAIN_DATA``, ``VAL_DATA``, ``BASE_MODEL_ID`` and ``ROUTER_OUT`` stand
            in for what the request leaves open.
        is_file: tells whether a data file is there; a trainer elsewhere has its own files.
    """

    trainer: RouterTrainer
    environment: Mapping[str, str] = field(factory=dict)
    is_file: Callable[[Path], bool] = Path.is_file

    def __call__(self, request: TrainRouterRequest, observer: TrainingObserver) -> TrainReport:
        """Train; raises what :class:`application.ports.RouterTrainer` raises, and MissingFileError."""
        return self.trainer.train(resolve_job(request, self.environment, self.is_file), observer)


def resolve_job(
    request: TrainRouterRequest, environment: Mapping[str, str], is_file: Callable[[Path], bool]
) -> TrainJob:
    """Return the job that a request means: the request goes before the environment, which goes before defaults.

    Each data file on its own: its explicit path, else the file in the request's data set folder, else its
    environment variable, else the file in ``/datasets/routing_latest``. An empty variable counts as unset.

    Raises:
        MissingFileError: `is_file` does not know a data file.
    """
    paths = training_paths(request.data_path, request.eval_data_path, request.dataset_dir, environment, is_file)
    router_out = request.router_out or _path(environment, "ROUTER_OUT") or DEFAULT_ROUTER
    return TrainJob(
        train_path=paths.train,
        val_path=paths.val,
        base_model=request.base_model or environment.get("BASE_MODEL_ID") or None,
        router_out=router_out,
        log_dir=request.log_dir,
        options=request.options,
        out_of_scope_path=request.out_of_scope,
        use_cache=request.use_cache,
        turn=request.turn,
    )


def _path(environment: Mapping[str, str], name: str) -> Path | None:
    value = environment.get(name)
    return Path(value) if value else None
