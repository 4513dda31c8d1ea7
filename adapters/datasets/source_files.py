"""From what a person names as a source to its files: a file, a folder, a glob, a saved data set, a hub id."""

from __future__ import annotations

import re
from collections.abc import Iterable
from glob import glob
from pathlib import Path

import orjson

from domain.errors import DataRejectedError, MissingFileError

_SUFFIXES = (".jsonl", ".json", ".ndjson", ".parquet", ".arrow", ".feather", ".csv", ".tsv")
_PACKED = (".gz", ".zst")
_NOT_DATA = {"dataset_info.json", "dataset_infos.json", "dataset_dict.json", "state.json", "metadata.json"}
_SPLIT = re.compile(r"(?:^|[-_.])(train|test|validation|valid|val|dev|eval)(?=[-_.\d]|$)")
_HUB = re.compile(r"hf:/+(?:datasets/)?(.+)")


def source_files(path: Path) -> tuple[Path, ...]:
    """Return the files that a source's path means, in a fixed order.

    A folder stands for the data files in it (or in its ``data`` folder): where their names tell splits apart, those
    of ``train``. A folder written by ``datasets.save_to_disk`` stands for its files, in the order that it lists.

    Raises:
        MissingFileError: nothing is there.
        DataRejectedError: a folder does not tell which of its files are meant.
        RemoteError: the hub cannot be reached, or does not have it.
    """
    if (hub := _HUB.fullmatch(str(path))) is not None:
        from adapters.datasets.hub_datasets import fetch_dataset

        return fetch_dataset(hub[1])
    if path.is_dir():
        return _in_folder(path)
    if not path.exists() and any(letter in str(path) for letter in "*?["):
        names = sorted(glob(str(path), recursive=True))  # noqa: PTH207 - absolute and relative patterns alike
        found = tuple(Path(name) for name in names if Path(name).is_file())
        if not found:
            raise MissingFileError("matches no file", where=path)
        return found
    return (path,)


def choose_shards(names: Iterable[str]) -> list[str]:
    """Return which of these files hold a data set's training rows: all data files, or those of its train split."""
    data = sorted(name for name in names if is_data(name))
    train = [name for name in data if _split(name) == "train"]
    return train or data


def is_data(name: str) -> bool:
    """Tell whether a file is data, by its name."""
    base = name.rsplit("/", 1)[-1]
    plain = base.removesuffix(next((one for one in _PACKED if base.endswith(one)), ""))
    return not base.startswith((".", "_")) and base not in _NOT_DATA and plain.lower().endswith(_SUFFIXES)


def _split(name: str) -> str | None:
    found = _SPLIT.search(name.rsplit("/", 1)[-1])
    return found[1] if found else None


def _in_folder(folder: Path) -> tuple[Path, ...]:
    if (folder / "dataset_dict.json").is_file():
        return _in_folder(folder / _only_split(folder))
    if (folder / "state.json").is_file():
        return _saved(folder)
    for place in (folder, folder / "data"):
        names = [one.name for one in sorted(place.iterdir()) if one.is_file()] if place.is_dir() else []
        if chosen := choose_shards(names):
            return tuple(place / name for name in chosen)
    raise MissingFileError(
        "is a folder without data files",
        where=folder,
        hint=f"looked for {', '.join(_SUFFIXES)}, plain or packed (.gz, .zst)",
    )


def _only_split(folder: Path) -> str:
    splits = _json(folder / "dataset_dict.json").get("splits")
    if not isinstance(splits, list) or not splits or not all(isinstance(name, str) for name in splits):
        raise DataRejectedError("names no splits", where=folder / "dataset_dict.json")
    if "train" not in splits and len(splits) > 1:
        raise DataRejectedError(
            f"holds the splits {', '.join(splits)}", where=folder, hint=f"name one: {folder / splits[0]}"
        )
    return "train" if "train" in splits else str(splits[0])


def _saved(folder: Path) -> tuple[Path, ...]:
    state = _json(folder / "state.json")
    files = state.get("_data_files")
    if state.get("_indices_data_files"):
        raise DataRejectedError(
            "was saved with a selection of rows", where=folder, hint="save it again after flatten_indices()"
        )
    names = [one.get("filename") for one in files if isinstance(one, dict)] if isinstance(files, list) else []
    if not names or not all(isinstance(name, str) and "/" not in name for name in names):
        raise DataRejectedError("names no data files", where=folder / "state.json", hint="save the data set again")
    return tuple(folder / str(name) for name in names)


def _json(path: Path) -> dict[str, object]:
    try:
        content = orjson.loads(path.read_bytes())
    except (OSError, orjson.JSONDecodeError) as error:
        raise DataRejectedError(f"cannot be read: {error}", where=path) from error
    return content if isinstance(content, dict) else {}
