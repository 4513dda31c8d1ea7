"""A remote volume and local folders that live in dictionaries."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from attrs import define, field

from application.ports.publishing import LocalFile, RemoteFile
from domain.errors import MissingFileError, RemoteError, TargetExistsError
from domain.publishing import ANSWERS_FILE, PUBLISHED_FILES, REQUIRED_FILES


@define
class InMemoryRemoteDatasetStore:
    """A :class:`application.ports.publishing.RemoteDatasetStore` in memory; it can be told to fail.

    Attributes:
        volume: name of the volume, for messages.
        files: content by path.
        history: the files after each change, oldest first: every state that a reader could have met.
        operations: calls so far.
        fails_at: the operation that raises RemoteError before it does anything, from 1; None for never.
        fails_for: how many operations in a row fail from there; None for all.
    """

    volume: str = "in-memory"
    files: dict[str, bytes] = field(factory=dict)
    history: list[dict[str, bytes]] = field(factory=list, init=False)
    operations: int = field(default=0, init=False)
    fails_at: int | None = None
    fails_for: int | None = 1

    def list_files(self, folder: str) -> list[RemoteFile]:
        """Return the files below `folder`; see the port."""
        self._operate()
        return [
            RemoteFile(path, len(content))
            for path, content in sorted(self.files.items())
            if not folder or path == folder or path.startswith(folder + "/")
        ]

    def read(self, path: str) -> Iterator[bytes]:
        """Yield the content in one block; see the port."""
        self._operate()
        if path not in self.files:
            raise RemoteError("no such file", where=f"{self.volume}:{path}")
        yield self.files[path]

    def upload(self, files: Mapping[str, Path | bytes]) -> None:
        """Write all files at once; see the port."""
        self._operate()
        content = {path: each if isinstance(each, bytes) else each.read_bytes() for path, each in files.items()}
        self.files = {**self.files, **content}
        self.history.append(self.files)

    def remove(self, paths: Sequence[str]) -> None:
        """Delete files; see the port."""
        self._operate()
        self.files = {path: content for path, content in self.files.items() if path not in paths}
        self.history.append(self.files)

    def _operate(self) -> None:
        self.operations += 1
        if self.fails_at is None or self.operations < self.fails_at:
            return
        if self.fails_for is None or self.operations < self.fails_at + self.fails_for:
            raise RemoteError(f"operation {self.operations} failed as it was told to", where=self.volume)


@define
class InMemoryDatasetFolders:
    """A :class:`application.ports.publishing.DatasetFolders` in memory.

    Attributes:
        datasets: content by file name, by folder.
        received: what `staged` brought: content by path relative to the target ("" for a single file), by target.
    """

    datasets: dict[Path, dict[str, bytes]] = field(factory=dict)
    received: dict[Path, dict[str, bytes]] = field(factory=dict)

    def publishable(self, dataset_dir: Path, *, answers: bool = False) -> tuple[LocalFile, ...]:
        """Return the files to publish; see the port."""
        files = self.datasets.get(dataset_dir, {})
        asked = (ANSWERS_FILE,) if answers else ()
        if missing := [name for name in (*REQUIRED_FILES, *asked) if name not in files]:
            raise MissingFileError(f"lacks {', '.join(missing)}", where=dataset_dir)
        return tuple(
            LocalFile(name, len(files[name]), hashlib.sha256(files[name]).hexdigest(), files[name])
            for name in (*PUBLISHED_FILES, *asked)
            if name in files
        )

    @contextmanager
    def staged_folder(self, target: Path, *, replace: bool) -> Iterator[Path]:
        """Give a temporary folder and remember what lies there at the end; see the port."""
        there = self.received.get(target, {})
        self._refuse(target, replace=replace, kept=bool(there) and "metadata.json" not in there)
        with tempfile.TemporaryDirectory() as scratch:
            yield Path(scratch)
            found = [path for path in sorted(Path(scratch).rglob("*")) if path.is_file()]
            self.received[target] = {str(path.relative_to(scratch)): path.read_bytes() for path in found}

    @contextmanager
    def staged_file(self, target: Path, *, replace: bool) -> Iterator[Path]:
        """Give a temporary file and remember its content; see the port."""
        self._refuse(target, replace=replace, kept="" not in self.received.get(target, {"": b""}))
        with tempfile.TemporaryDirectory() as scratch:
            path = Path(scratch) / "new"
            path.touch()
            yield path
            self.received[target] = {"": path.read_bytes()}

    def _refuse(self, target: Path, *, replace: bool, kept: bool) -> None:
        if target in self.received and (kept or not replace):
            raise TargetExistsError("already exists", where=target)
