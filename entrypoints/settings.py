"""Every setting that does not belong to one run: environment variables, defaults, and which files a run reads.

A flag goes before its environment variable, that before the configuration file (:mod:`entrypoints.cli.config_file`),
and that before the default. An empty variable counts as unset. The flags take :class:`Variable` as click's
``envvar``; what has no flag is read by :class:`Settings`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from enum import StrEnum
from pathlib import Path
from typing import Any, Final

from attrs import field, fields, frozen

from application.ports import TrainJob
from domain.errors import MissingFileError, UsageError
from domain.training import TrainOptions
from domain.turns import TurnChoice


class Variable(StrEnum):
    """An environment variable."""

    TRAIN_DATA = "TRAIN_DATA"
    VAL_DATA = "VAL_DATA"
    BASE_MODEL = "BASE_MODEL_ID"
    ROUTER = "ROUTER_OUT"
    LOG_DIR = "LOG_DIR"
    CACHE = "MOE_ROUTER_CACHE"
    CONFIG = "MOE_ROUTER_CONFIG"
    MODAL_GPU = "MOE_ROUTER_MODAL_GPU"
    MODAL_TIMEOUT = "MOE_ROUTER_MODAL_TIMEOUT"
    MODAL_WARM = "MOE_ROUTER_MODAL_WARM"
    MODAL_DATA_VOLUME = "MOE_ROUTER_MODAL_DATA_VOLUME"
    COMMIT_SECONDS = "MOE_ROUTER_COMMIT_SECONDS"


def _seconds(text: str) -> float:
    value = float(text)
    if not 0 <= value < float("inf"):
        raise ValueError
    return value


def _from(variable: Variable, convert: Callable[[str], Any]) -> dict[str, Any]:
    return {"variable": variable, "convert": convert}


@frozen
class Settings:
    """What one process is set to without flags.

    Attributes:
        cache: folder for converted base models and cached features; None for the user's cache folder.
        modal_gpu: kinds of GPU of a container on Modal, the first that is free.
        modal_timeout: seconds for one call to Modal, apart from the time that its data takes.
        modal_warm: seconds for which a container on Modal that has answered or scored stays for the next call.
        commit_seconds: least seconds between two commits of checkpoints on Modal.
        data_volume: Modal volume with the data sets: `publish` fills it, containers see it at ``/datasets``.
    """

    cache: Path | None = field(default=None, metadata=_from(Variable.CACHE, Path))
    modal_gpu: str = field(default="L4", metadata=_from(Variable.MODAL_GPU, str))
    modal_timeout: float = field(default=20.0, metadata=_from(Variable.MODAL_TIMEOUT, _seconds))
    modal_warm: int = field(
        default=300, metadata=_from(Variable.MODAL_WARM, lambda text: max(2, int(_seconds(text))))
    )
    commit_seconds: float = field(default=10.0, metadata=_from(Variable.COMMIT_SECONDS, _seconds))
    data_volume: str = field(default="moe-lora-data", metadata=_from(Variable.MODAL_DATA_VOLUME, str))

    @classmethod
    def read(cls, environment: Mapping[str, str]) -> Settings:
        """Return the settings of an environment; raises UsageError for a value that makes no sense."""
        values = {}
        for each in fields(cls):
            text = environment.get(variable := each.metadata["variable"])
            if not text:
                continue
            try:
                values[each.name] = each.metadata["convert"](text)
            except ValueError:
                raise UsageError(f"{variable}={text!r} is not a number of seconds") from None
        return cls(**values)


@frozen
class Places:
    """Where one backend reads and writes unless it is told otherwise; on the machine that works.

    Attributes:
        router: the router's file.
        log_dir: folder for the metrics of all runs.
        base_model: base model to train on; None for the embedded one.
        dataset: folder of the data set, where the latest published one is mounted.
    """

    router: Path
    log_dir: Path
    base_model: str | None = None
    dataset: Path = Path("/datasets/routing_latest")


HERE: Final = Places(Path("router-head.safetensors"), Path("runs/tensorboard"))
"""The places on this machine."""

_HINT: Final = "name a data set folder with --dataset-dir, or files with --data-path"


@frozen
class DataFiles:
    """Which rows a run reads: a file that is named, else the file in the folder, else the default folder's.

    Attributes:
        dataset_dir: folder of the data set.
        data_path: file of rows.
        eval_data_path: file of validation rows.
    """

    dataset_dir: Path | None = None
    data_path: Path | None = None
    eval_data_path: Path | None = None

    def training(self, default: Path, is_file: Callable[[Path], bool] = Path.is_file) -> tuple[Path, Path]:
        """Return the files of training and validation rows, each found on its own; raises MissingFileError.

        Args:
            default: folder of the data set when nothing is named.
            is_file: tells whether a file is there.
        """
        folder = self.dataset_dir or default
        return (
            self._first(self.data_path, [folder / "train.jsonl"], is_file),
            self._first(self.eval_data_path, [folder / "val.jsonl"], is_file),
        )

    def evaluation(self, default: Path, is_file: Callable[[Path], bool] = Path.is_file) -> Path:
        """Return the file to score a router on; raises MissingFileError.

        A data set folder's held-out ``eval.jsonl`` is preferred to its ``val.jsonl``, which training has seen in
        part: it chose when to stop, the head, the temperature and the thresholds on it.
        """
        folder = self.dataset_dir or default
        return self._first(self.data_path, [folder / "eval.jsonl", folder / "val.jsonl"], is_file)

    def _first(self, named: Path | None, in_folder: list[Path], is_file: Callable[[Path], bool]) -> Path:
        candidates = [named] if named else in_folder
        for candidate in candidates:
            if is_file(candidate):
                return candidate
        where = " or ".join(map(str, candidates))
        if named or self.dataset_dir:
            raise MissingFileError("no such file", where=where, hint=_HINT)
        if self.data_path or self.eval_data_path:
            hint = "name both files: --data-path and --eval-data-path"
            raise MissingFileError("no such file, and the other rows' file alone is named", where=where, hint=hint)
        raise MissingFileError("no data set is named, and none is at the default place", where=where, hint=_HINT)


@frozen
class Training:
    """What to train on and where to put it; None leaves it to the places of whoever trains.

    Attributes:
        data: which rows.
        options: how to train.
        base_model: hub id or folder.
        router_out: where the router goes.
        log_dir: folder for the metrics of all runs; None for none.
        out_of_scope: file of prompts that belong to no adapter, to fit abstention to.
        use_cache: whether the feature cache may be used.
        turn: which human turns of a conversation the rows were made of; None for what the data set says of itself.
        verify: whether a data set that fails a check of `verify` is refused; else it is only warned of.
    """

    data: DataFiles = field(factory=DataFiles)
    options: TrainOptions = field(factory=TrainOptions)
    base_model: str | None = None
    router_out: Path | None = None
    log_dir: Path | None = None
    out_of_scope: Path | None = None
    use_cache: bool = True
    turn: TurnChoice | None = None
    verify: bool = True

    def job(self, places: Places, is_file: Callable[[Path], bool] = Path.is_file) -> TrainJob:
        """Return the job for a machine with these places; raises MissingFileError for rows that are not there."""
        train_path, val_path = self.data.training(places.dataset, is_file)
        return TrainJob(
            train_path=train_path,
            val_path=val_path,
            base_model=self.base_model or places.base_model,
            router_out=self.router_out or places.router,
            log_dir=self.log_dir,
            options=self.options,
            out_of_scope_path=self.out_of_scope,
            use_cache=self.use_cache,
            turn=self.turn,
        )
