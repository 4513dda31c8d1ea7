"""Which files a run reads: flags first, then the data set folder, then the environment, then the defaults."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

from attrs import frozen

from domain.errors import MissingFileError

DEFAULT_DATASET: Final = Path("/datasets/routing_latest")
"""Where the latest published data set is mounted, on Modal or here."""

DEFAULT_ROUTER: Final = Path("router-head.safetensors")
"""Where training puts a router, and where it is looked for, unless said otherwise."""

_HINT = "name a data set folder with --dataset-dir, or files with --data-path"


@frozen
class TrainingPaths:
    """The files of one training run.

    Attributes:
        train: training rows.
        val: validation rows.
    """

    train: Path
    val: Path


def training_paths(
    data_path: Path | None,
    eval_data_path: Path | None,
    dataset_dir: Path | None,
    environment: Mapping[str, str],
    is_file: Callable[[Path], bool] = Path.is_file,
) -> TrainingPaths:
    """Return the training and the validation file, each resolved on its own; raises MissingFileError.

    Args:
        data_path: explicit training file.
        eval_data_path: explicit validation file.
        dataset_dir: folder with ``train.jsonl`` and ``val.jsonl``.
        environment: ``TRAIN_DATA`` and ``VAL_DATA`` count when neither flag is given.
        is_file: tells whether a file is there.
    """
    train = _resolve(data_path, dataset_dir, environment.get("TRAIN_DATA"), ("train.jsonl",), is_file)
    val = _resolve(eval_data_path, dataset_dir, environment.get("VAL_DATA"), ("val.jsonl",), is_file)
    return TrainingPaths(train, val)


def evaluation_path(
    data_path: Path | None,
    dataset_dir: Path | None,
    environment: Mapping[str, str],
    is_file: Callable[[Path], bool] = Path.is_file,
) -> Path:
    """Return the file to score a router on; raises MissingFileError.

    A data set folder's held-out ``eval.jsonl`` is preferred to its ``val.jsonl``, which training has seen in part:
    it chose when to stop, the head, the temperature and the thresholds on it.
    """
    return _resolve(data_path, dataset_dir, environment.get("VAL_DATA"), ("eval.jsonl", "val.jsonl"), is_file)


def router_path(router: Path | None, environment: Mapping[str, str]) -> Path:
    """Return the router to read: the one named, else ``ROUTER_OUT``, else the default of training.

    ``ROUTER_OUT`` may name the torch file that training writes for others; the router is the file beside it.
    """
    if router is not None:
        return router
    path = Path(environment.get("ROUTER_OUT") or DEFAULT_ROUTER)
    return path.with_suffix(".safetensors") if path.suffix == ".pt" else path


def _resolve(
    explicit: Path | None,
    folder: Path | None,
    from_environment: str | None,
    names: tuple[str, ...],
    is_file: Callable[[Path], bool],
) -> Path:
    if explicit is not None:
        candidates = [explicit]
    elif folder is not None:
        candidates = [folder / name for name in names]
    elif from_environment:
        candidates = [Path(from_environment)]
    else:
        candidates = [DEFAULT_DATASET / name for name in names]
    for candidate in candidates:
        if is_file(candidate):
            return candidate
    raise MissingFileError("no such file", where=" or ".join(map(str, candidates)), hint=_HINT)
