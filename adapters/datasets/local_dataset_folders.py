"""Routing data sets and downloads in the file system of this machine."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import orjson
from attrs import evolve

from adapters.datasets.jsonl_dataset_store import DATASET_FOLDER, NO_ANSWERS, NO_ANSWERS_HINT
from adapters.files.atomic_files import staged_file
from adapters.files.staged_folder import staged_folder
from application.ports.publishing import LocalFile
from domain.errors import DataRejectedError, MissingFileError, StorageError, TargetExistsError
from domain.publishing import ANSWERS_FILE, PUBLISHED_FILES, REQUIRED_FILES, manifest_hashes


class LocalDatasetFolders:
    """A :class:`application.ports.publishing.DatasetFolders` on the local file system."""

    def publishable(self, dataset_dir: Path, *, answers: bool = False) -> tuple[LocalFile, ...]:
        """Return the files to publish, hashed now; see the port."""
        if not dataset_dir.is_dir():
            raise MissingFileError("no such data set folder", where=dataset_dir, hint="make one: moe-router generate")
        missing = [name for name in REQUIRED_FILES if not (dataset_dir / name).is_file()]
        if missing:
            raise MissingFileError(
                f"is not a routing data set: it lacks {', '.join(missing)}",
                where=dataset_dir,
                hint="make one: moe-router generate",
            )
        if answers and not (dataset_dir / ANSWERS_FILE).is_file():
            raise MissingFileError(NO_ANSWERS, where=dataset_dir, hint=NO_ANSWERS_HINT)
        names = (*PUBLISHED_FILES, *([ANSWERS_FILE] if answers else []))
        files = tuple(_described(dataset_dir / name) for name in names if (dataset_dir / name).is_file())
        _require_manifest(dataset_dir, files)
        return files

    @contextmanager
    def staged_folder(self, target: Path, *, replace: bool) -> Iterator[Path]:
        """Open a folder to put a data set's files into; see the port."""
        with staged_folder(target, _DOWNLOADED, replace=replace) as folder:
            yield folder.staging
            folder.publish()

    @contextmanager
    def staged_file(self, target: Path, *, replace: bool) -> Iterator[Path]:
        """Open a file to write to; see the port."""
        if os.path.lexists(target) and (not replace or target.is_dir()):
            hint = _DOWNLOADED.hint if target.is_dir() else f"{_DOWNLOADED.hint}, or replace it"
            raise TargetExistsError("already exists", where=target, hint=hint, replaceable=not target.is_dir())
        with staged_file(target) as path:
            yield path


_DOWNLOADED = evolve(DATASET_FOLDER, hint="choose another name")


def _described(path: Path) -> LocalFile:
    try:
        with path.open("rb") as stream:
            digest = hashlib.file_digest(stream, "sha256").hexdigest()
            return LocalFile(path.name, stream.tell(), digest, path)
    except OSError as error:
        raise _storage_error(error, path) from error


def _require_manifest(dataset_dir: Path, files: tuple[LocalFile, ...]) -> None:
    """Raise DataRejectedError unless the files are those that the metadata was written for."""
    try:
        metadata = orjson.loads((dataset_dir / "metadata.json").read_bytes())
    except ValueError as error:
        raise DataRejectedError("is not JSON", where=dataset_dir / "metadata.json") from error
    if not isinstance(metadata, dict):
        raise DataRejectedError("is not a JSON object", where=dataset_dir / "metadata.json")
    expected = manifest_hashes(metadata)
    here = {file.name: file.sha256 for file in files}
    changed = [name for name, digest in here.items() if expected.get(name, digest) != digest]
    absent = [name for name in PUBLISHED_FILES if name in expected and name not in here]
    if changed or absent:
        raise DataRejectedError(
            f"{', '.join(changed + absent)} disagree with the hashes in metadata.json",
            where=dataset_dir,
            hint="generate the data set again",
        )


def _storage_error(error: OSError, path: Path) -> StorageError:
    return StorageError(error.strerror or str(error), where=path)
