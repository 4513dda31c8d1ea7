"""Ports for moving data sets and routers between this machine and a remote volume."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Protocol

from attrs import frozen


@frozen
class LocalFile:
    """A file to publish.

    Attributes:
        name: file name within its data set, for example ``train.jsonl``.
        size: bytes.
        sha256: hash of the content, lower-case hex.
        source: where the content lies, or the content itself.
    """

    name: str
    size: int
    sha256: str
    source: Path | bytes


@frozen
class RemoteFile:
    """A file on a volume; `path` is relative to the volume's root, `size` in bytes."""

    path: str
    size: int


class DatasetFolders(Protocol):
    """Folders and files on this machine."""

    def publishable(self, dataset_dir: Path, *, answers: bool = False) -> tuple[LocalFile, ...]:
        """Return what of a data set is published (see :data:`domain.publishing.PUBLISHED_FILES`), in that order.

        Args:
            dataset_dir: the data set's folder.
            answers: whether its reference answers are published, too; they come last.

        Raises:
            MissingFileError: no such folder, or it lacks a required file, or the answers that are asked for.
            DataRejectedError: the files disagree with the hashes in ``metadata.json``.
        """
        ...

    def staged_folder(self, target: Path, *, replace: bool) -> AbstractContextManager[Path]:
        """Open an empty folder for a data set's files; it becomes `target` when the context ends without an error.

        Until then, and for ever when there is an error, `target` stays as it was.

        Raises:
            TargetExistsError: `target` is there and `replace` is false, or it is not a routing data set, or holds
                anything else.
            StorageError: the file system refused.
        """
        ...

    def staged_file(self, target: Path, *, replace: bool) -> AbstractContextManager[Path]:
        """Open an empty file, as `staged_folder`.

        Raises:
            TargetExistsError: `target` is there and `replace` is false, or it is a folder.
            StorageError: the file system refused.
        """
        ...


class RemoteDatasetStore(Protocol):
    """One remote volume, holding data sets and routers as folders of files.

    The contract, beyond the methods': paths are relative to the volume's root, with ``/``. What one `upload`
    brings becomes visible in one step or not at all. `read` gives exactly what was uploaded. Every method raises
    RemoteError, with what the user can do and without secrets, when the remote side refuses, fails or does not
    answer in time.
    """

    @property
    def volume(self) -> str:
        """Name of the volume, for messages."""
        ...

    def list_files(self, folder: str) -> list[RemoteFile]:
        """Return all files below `folder` (at any depth), sorted by path; none when there is no such folder."""
        ...

    def read(self, path: str) -> Iterator[bytes]:
        """Yield a file's content in blocks; raises RemoteError when there is no such file."""
        ...

    def upload(self, files: Mapping[str, Path | bytes]) -> None:
        """Write all files, by remote path, replacing those that are there."""
        ...

    def remove(self, paths: Sequence[str]) -> None:
        """Delete files; one that is not there is not an error."""
        ...
