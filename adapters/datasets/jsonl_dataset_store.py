"""Routing data sets as folders of JSON Lines files."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import orjson
from attrs import asdict, define, frozen

from adapters.datasets.reference_lines import answer_lines, parse_answers
from adapters.files.regular_files import SpecialFileError, read_regular
from adapters.files.staged_folder import FolderKind, StagedFolder, other_entries, staged_folder
from adapters.files.writable import is_special
from domain.datasets import DatasetFile, RoutingDataset
from domain.errors import DataRejectedError, MissingFileError, MoeRouterError, StorageError
from domain.labels import check_adapter_name
from domain.publishing import ANSWERS_FILE, manifest_hashes
from domain.references import ReferenceAnswer
from domain.samples import RoutingSample
from domain.split import Split

METADATA = "metadata.json"
CARD = "README.md"
_FILES = frozenset(
    {METADATA, CARD, "data.jsonl", "rejects.jsonl", ANSWERS_FILE, *(f"{split}.jsonl" for split in Split)}
)

NO_ANSWERS = f"the data set keeps no reference answers ({ANSWERS_FILE})"
NO_ANSWERS_HINT = (
    "make it anew with moe-router generate, with held-out rows and without --no-answers; publish it with --answers"
)
ROW_HINT = (
    'a row is {"text": "…", "label": 0, "adapter": "NAME", "source_id": "…"}; moe-router generate makes files of them'
)


@frozen
class JsonlDatasetStore:
    """A :class:`application.ports.DatasetStore` on the local file system.

    A folder holds ``train.jsonl``, ``val.jsonl``, ``data.jsonl`` (both), ``eval.jsonl`` when rows are held out,
    ``eval-answers.jsonl`` when reference answers of those are kept, ``rejects.jsonl`` when source lines were
    rejected, ``README.md``, and ``metadata.json`` with the SHA-256 of each.
    """

    def read_rows(self, path: Path) -> list[RoutingSample]:
        """Read one file strictly; see the port for the contract."""
        try:
            content = path.read_bytes()
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
            what = "is a folder, not a file" if path.is_dir() else "no such file"
            raise MissingFileError(what, where=path, hint="name a file such as train.jsonl") from None
        except OSError as error:
            raise StorageError(f"cannot read: {error.strerror or error}", where=path) from error
        in_dataset = (path.parent / METADATA).is_file()
        hint = f"look into it: moe-router verify {path.parent}" if in_dataset else ROW_HINT
        rows = parse_rows(content, path, hint=hint)
        if not rows:
            raise DataRejectedError("holds no rows", where=path, hint="generate the data set again")
        return rows

    def list_files(self, folder: Path) -> tuple[DatasetFile, ...]:
        """Hash every file of the folder; see the port for the contract."""
        _require_folder(folder)
        try:
            entries = sorted(folder.iterdir())
            if special := [entry.name for entry in entries if is_special(entry)]:
                raise DataRejectedError(f"{special[0]} is a device or pipe, not a file", where=folder)
            names = [entry.name for entry in entries if entry.is_file()]
            contents = ((name, (folder / name).read_bytes()) for name in names)
            return tuple(describe_file(name, content) for name, content in contents)
        except OSError as error:
            raise StorageError(f"cannot read: {error.strerror or error}", where=folder) from error

    def read_metadata(self, folder: Path) -> dict[str, Any]:
        """Read ``metadata.json``; see the port for the contract."""
        _require_folder(folder)
        path = folder / METADATA
        missing = MissingFileError("no such file", where=path, hint="is this folder a routing data set?")
        return parse_metadata(_content(path, missing), path)

    def read_answers(self, folder: Path) -> list[ReferenceAnswer]:
        """Read ``eval-answers.jsonl``; see the port for the contract."""
        _require_folder(folder)
        path = folder / ANSWERS_FILE
        return parse_answers(_content(path, MissingFileError(NO_ANSWERS, where=folder, hint=NO_ANSWERS_HINT)), path)

    def data_sets_in(self, folder: Path) -> list[Path]:
        """Look for ``metadata.json``; see the port for the contract."""
        return sorted(path.parent for path in folder.glob(f"[!.]*/{METADATA}"))

    @contextmanager
    def reserve(self, target: Path, *, unique: bool = False, replace: bool = False) -> Iterator[JsonlReservation]:
        """Reserve a folder, and clear away what killed runs left beside it; see the port for the contract."""
        with staged_folder(target, DATASET_FOLDER, unique=unique, replace=replace) as folder:
            yield JsonlReservation(folder)


@define
class JsonlReservation:
    """A :class:`application.ports.datasets.ReservedDataset` that is a staged folder."""

    folder: StagedFolder

    @property
    def path(self) -> Path:
        """Where the data set will lie."""
        return self.folder.target

    def commit(self, dataset: RoutingDataset) -> tuple[DatasetFile, ...]:
        """Write and sync all files, ``metadata.json`` last, and give the folder its name."""
        files = []
        for name, content, rows in dataset_contents(dataset):
            self.folder.write(name, content)
            files.append(describe_file(name, content, rows))
        manifest = metadata_bytes(dataset, files)
        self.folder.write(METADATA, manifest)
        files.append(describe_file(METADATA, manifest))
        self.folder.publish()
        return tuple(files)


def describe_file(name: str, content: bytes, rows: int | None = None) -> DatasetFile:
    """Return what a file with this content is."""
    return DatasetFile(name, len(content), hashlib.sha256(content).hexdigest(), rows)


def dataset_contents(dataset: RoutingDataset) -> Iterator[tuple[str, bytes, int | None]]:
    """Yield name, content and number of rows of every file but ``metadata.json``."""
    yield "data.jsonl", _json_lines(dataset.data), len(dataset.data)
    for split in Split:
        rows = dataset.splits[split]
        if rows or split is not Split.EVAL:
            yield f"{split}.jsonl", _json_lines(rows), len(rows)
    if dataset.answers:
        yield ANSWERS_FILE, answer_lines(dataset.answers), len(dataset.answers)
    if dataset.rejects:
        yield "rejects.jsonl", _json_lines(dataset.rejects), len(dataset.rejects)
    yield CARD, dataset.card.encode(), None


def metadata_bytes(dataset: RoutingDataset, files: Sequence[DatasetFile]) -> bytes:
    """Return the content of ``metadata.json``: the data set's metadata and what its files must be."""
    listed = {
        one.name: {"sha256": one.sha256, "bytes": one.size} | ({} if one.rows is None else {"rows": one.rows})
        for one in files
    }
    options = orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE
    return orjson.dumps({**dataset.metadata, "files": listed}, option=options)


def parse_metadata(content: bytes, where: object) -> dict[str, Any]:
    """Parse ``metadata.json``; raises DataRejectedError."""
    try:
        metadata = orjson.loads(content)
    except orjson.JSONDecodeError as error:
        raise DataRejectedError(f"is not JSON: {error}", where=where) from error
    if not isinstance(metadata, dict):
        raise DataRejectedError(f"holds a {type(metadata).__name__}, not an object", where=where)
    return metadata


def parse_rows(content: bytes, where: object, *, hint: str = ROW_HINT) -> list[RoutingSample]:
    """Parse the rows of one file; raises DataRejectedError naming the line. Blank lines are passed over.

    Args:
        content: the file's bytes.
        where: how the file is called in an error.
        hint: what the user can do about a row that cannot be used.
    """
    rows: list[RoutingSample] = []
    names: dict[int, str] = {}
    labels: dict[str, int] = {}
    for number, raw in enumerate(content.removeprefix(b"\xef\xbb\xbf").split(b"\n"), start=1):
        if not raw.strip():
            continue
        try:
            row = _parse_row(raw)
            if names.setdefault(row.label, row.adapter) != row.adapter:
                raise ValueError(f"label {row.label} is {row.adapter!r} here and {names[row.label]!r} before")
            if labels.setdefault(row.adapter, row.label) != row.label:
                raise ValueError(
                    f"adapter {row.adapter!r} has label {row.label} here and {labels[row.adapter]} before"
                )
        except ValueError as error:  # JSONDecodeError and UsageError are ValueErrors
            what = error.what if isinstance(error, MoeRouterError) else str(error)
            raise DataRejectedError(f"line {number}: {what}", where=where, hint=hint) from error
        rows.append(row)
    return rows


def _parse_row(raw: bytes) -> RoutingSample:
    row: Any = orjson.loads(raw)
    if type(row) is not dict:
        raise ValueError(f"the row is a {type(row).__name__}, not an object")
    for key, kind in (("text", str), ("label", int), ("adapter", str), ("source_id", str)):
        if key not in row:
            raise ValueError(f"no {key!r}")
        if type(row[key]) is not kind:
            raise ValueError(f"{key!r} is a {type(row[key]).__name__}, not a {kind.__name__}")
    if not row["text"].strip():
        raise ValueError("'text' is empty")
    if row["label"] < 0:
        raise ValueError(f"label {row['label']} is negative")
    return RoutingSample(row["text"], row["label"], check_adapter_name(row["adapter"]), row["source_id"])


def _json_lines(rows: Sequence[Any]) -> bytes:
    return b"".join(orjson.dumps(asdict(row), option=orjson.OPT_APPEND_NEWLINE) for row in rows)


def _content(path: Path, missing: MissingFileError) -> bytes:
    """Return a regular file's content; raises `missing` where there is none."""
    try:
        return read_regular(path)
    except SpecialFileError as error:
        raise DataRejectedError(str(error), where=path) from error
    except FileNotFoundError:
        raise missing from None
    except OSError as error:
        raise StorageError(f"cannot read: {error.strerror or error}", where=path) from error


def _require_folder(folder: Path) -> None:
    if not folder.is_dir():
        what = "is not a folder" if folder.exists() else "no such folder"
        raise MissingFileError(what, where=folder, hint="name the folder of a routing data set")


def _foreign(folder: Path) -> list[str]:
    """Return what in the folder is not part of a routing data set; everything, when it is not one.

    A README that is not the one that the manifest knows was written by somebody.
    """
    names: frozenset[str] = frozenset()
    with suppress(FileNotFoundError, SpecialFileError, IsADirectoryError, DataRejectedError):
        metadata = parse_metadata(read_regular(folder / METADATA), folder)
        if metadata.keys() >= {"dataset_name", "adapters", "samples"}:
            names = _FILES - {CARD}
            card = describe_file(CARD, read_regular(folder / CARD))
            if manifest_hashes(metadata).get(CARD) == card.sha256:
                names = _FILES
    return other_entries(folder, names)


DATASET_FOLDER = FolderKind("a routing data set", _foreign, "choose another --output-dir")
