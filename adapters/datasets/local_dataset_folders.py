"""Routing data sets and downloads in the file system of this machine."""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import orjson

from adapters.files.atomic_files import sync
from application.ports.publishing import LocalFile
from domain.errors import DataRejectedError, MissingFileError, MoeRouterError, StorageError, TargetExistsError
from domain.publishing import PUBLISHED_FILES, REQUIRED_FILES, manifest_hashes


class LocalDatasetFolders:
    """A :class:`application.ports.publishing.DatasetFolders` on the local file system."""

    def publishable(self, dataset_dir: Path) -> tuple[LocalFile, ...]:
        """Return the files to publish, hashed now; see the port."""
        if not dataset_dir.is_dir():
            raise MissingFileError("no such data set folder", where=dataset_dir, hint="make one: moe-router generate")
        missing = [name for name in REQUIRED_FILES if not (dataset_dir / name).is_file()]
        if missing:
            raise MissingFileError(
                f"is no routing data set: it lacks {', '.join(missing)}",
                where=dataset_dir,
                hint="make one: moe-router generate",
            )
        files = tuple(_described(dataset_dir / name) for name in PUBLISHED_FILES if (dataset_dir / name).is_file())
        _require_manifest(dataset_dir, files)
        return files

    @contextmanager
    def staged(self, target: Path, *, replace: bool) -> Iterator[Path]:
        """Create beside `target`, flush to disk, then rename; see the port."""
        if os.path.lexists(target) and not replace:
            raise TargetExistsError("is already there", where=target, hint="choose another name, or pass --force")
        try:
            target.absolute().parent.mkdir(parents=True, exist_ok=True)
            scratch = Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=target.absolute().parent))
        except OSError as error:
            raise _storage_error(error, target) from error
        try:
            yield scratch / "new"
            _flush(scratch / "new")
            _swap(scratch / "new", target, scratch / "old")
            sync(target.absolute().parent)
        except MoeRouterError:  # some of ours are OSErrors too
            raise
        except OSError as error:
            raise _storage_error(error, target) from error
        finally:
            shutil.rmtree(scratch, ignore_errors=True)


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


def _swap(new: Path, target: Path, old: Path) -> None:
    """Put `new` in the place of `target`; a folder that is replaced comes back when the second rename fails."""
    if not target.is_dir() or target.is_symlink():
        new.rename(target)
        return
    target.rename(old)
    try:
        new.rename(target)
    except OSError:
        old.rename(target)
        raise


def _flush(path: Path) -> None:
    for each in path.rglob("*") if path.is_dir() else ():
        sync(each)
    sync(path)


def _storage_error(error: OSError, path: Path) -> StorageError:
    return StorageError(error.strerror or str(error), where=path)
