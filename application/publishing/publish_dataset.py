"""Publishing a routing data set to a remote volume."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from contextlib import suppress
from enum import StrEnum
from pathlib import Path

from attrs import field, frozen

from application.ports.publishing import DatasetFolders, LocalFile, RemoteDatasetStore
from application.ports.runtime import ProgressReporter, ProgressTask
from domain.errors import RemoteError, TargetExistsError
from domain.publishing import ANSWERS_FILE, LATEST, PUBLISHED_FILES, remote_folder


class Transfer(StrEnum):
    """What became of one file."""

    UPLOADED = "uploaded"
    REPLACED = "replaced"
    PRESENT = "already there"
    REMOVED = "removed"


@frozen
class PublishRequest:
    """What to publish, and how.

    Attributes:
        dataset_dir: folder with the routing data set.
        remote_dir: folder on the volume that data sets lie in.
        latest: also make it the data set that training uses by default.
        force: replace a data set of the same name that has other content.
        answers: also publish the reference answers of the held-out rows.
    """

    dataset_dir: Path
    remote_dir: str = "datasets"
    latest: bool = False
    force: bool = False
    answers: bool = False


@frozen
class PublishPlan:
    """What would be uploaded where, found without touching the remote side.

    Attributes:
        dataset: name of the data set.
        local_dir: absolute path of its folder.
        remote: folder on the volume.
        latest: second folder on the volume, or None.
        files: what is published.
        force: replace a data set of the same name that has other content.
    """

    dataset: str
    local_dir: Path
    remote: str
    latest: str | None
    files: tuple[LocalFile, ...]
    force: bool = False


@frozen
class PublishReport:
    """What a publication did.

    Attributes:
        plan: what was asked for.
        files: what became of each file, by name.
        latest: the same for the copy under :data:`domain.publishing.LATEST`; None when it was not asked for.
    """

    plan: PublishPlan
    files: dict[str, Transfer]
    latest: dict[str, Transfer] | None = None

    @property
    def uploaded(self) -> int:
        """Number of files that went into the data set's own folder now."""
        return sum(each in (Transfer.UPLOADED, Transfer.REPLACED) for each in self.files.values())


@frozen
class PlanPublication:
    """Finds out what a publication would upload; needs no account and no network."""

    folders: DatasetFolders

    def __call__(self, request: PublishRequest) -> PublishPlan:
        """Return the plan; raises as :meth:`DatasetFolders.publishable` and UsageError for unsafe names."""
        local_dir = request.dataset_dir.absolute()
        name = local_dir.resolve().name if request.dataset_dir.name in ("", ".", "..") else local_dir.name
        remote = remote_folder(request.remote_dir, name)
        latest = remote_folder(request.remote_dir, LATEST) if request.latest and name != LATEST else None
        files = self.folders.publishable(request.dataset_dir, answers=request.answers)
        return PublishPlan(name, local_dir, remote, latest, files, request.force)


@frozen
class PublishDataset:
    """Uploads what is missing of a data set, verifies what arrived, and then repoints ``routing_latest``.

    Each of the two folders changes in one step of the store, so readers find its old content or its new content and
    never a mix. A file that the new content does not have (an older ``eval.jsonl``) is emptied in that same step and
    then deleted: whoever reads in between meets an empty file, not other rows. A publication that was cut off is
    finished by running it again.
    """

    store: RemoteDatasetStore
    progress: ProgressReporter

    def __call__(self, plan: PublishPlan) -> PublishReport:
        """Publish what was planned, and return what became of each file.

        Raises:
            TargetExistsError: the name is taken by other content and `force` is false; nothing was changed.
            RemoteError: the remote side failed, or what arrived is not what was sent.
        """
        total = sum(file.size for file in plan.files) * (2 if plan.latest else 1)
        with self.progress.track(f"Publishing {plan.dataset}", total) as task:
            files = _Folder(self.store, plan.remote, plan.files, task).publish(force=plan.force)
            if plan.latest is None:
                return PublishReport(plan, files)
            latest = _Folder(self.store, plan.latest, plan.files, task).publish(force=True)
        return PublishReport(plan, files, latest)


@frozen
class _Folder:
    """One remote folder that should come to hold exactly these files."""

    store: RemoteDatasetStore
    path: str
    files: tuple[LocalFile, ...] = field()
    task: ProgressTask

    def publish(self, *, force: bool) -> dict[str, Transfer]:
        transfers = self._compare(force=force)
        surplus = [name for name, transfer in transfers.items() if transfer is Transfer.REMOVED]
        changed = [file for file in self.files if transfers[file.name] is not Transfer.PRESENT]
        if not force:
            self._refuse_other_content(transfers)
        content: dict[str, Path | bytes] = {self._remote(file.name): file.source for file in changed}
        content |= {self._remote(name): b"" for name in surplus}
        if content:
            self.store.upload(content)
        self._verify(changed, undo=not force)
        if surplus:
            self.store.remove([self._remote(name) for name in surplus])
        self.task.advance(sum(file.size for file in self.files))
        return transfers

    def _remote(self, name: str) -> str:
        return f"{self.path}/{name}"

    def _compare(self, *, force: bool) -> dict[str, Transfer]:
        """Decide per file, by content: hashes are compared, not names, sizes or times.

        Reference answers that are not published this time stay: without `force`, all else there is the same.
        """
        there = {file.path.removeprefix(self.path + "/"): file for file in self.store.list_files(self.path)}
        transfers = {}
        for file in self.files:
            if file.name not in there:
                transfers[file.name] = Transfer.UPLOADED
            elif there[file.name].size == file.size and self._sha256(file.name) == file.sha256:
                transfers[file.name] = Transfer.PRESENT
            else:
                transfers[file.name] = Transfer.REPLACED
        for name in (*PUBLISHED_FILES, *([ANSWERS_FILE] if force else [])):
            if name in there and name not in transfers:
                transfers[name] = Transfer.REMOVED
        return transfers

    def _refuse_other_content(self, transfers: dict[str, Transfer]) -> None:
        other = [name for name, kind in transfers.items() if kind in (Transfer.REPLACED, Transfer.REMOVED)]
        if other:
            raise TargetExistsError(
                f"is already published with other content ({', '.join(other)})",
                where=f"{self.store.volume}:{self.path}/",
                hint="publish under another name, or force its replacement (`force`)",
            )

    def _verify(self, changed: Iterable[LocalFile], *, undo: bool) -> None:
        damaged = [file.name for file in changed if self._sha256(file.name) != file.sha256]
        if not damaged:
            return
        if undo:  # a re-run would otherwise take them for somebody else's files
            with suppress(RemoteError):
                self.store.remove([self._remote(name) for name in damaged])
        raise RemoteError(
            f"{', '.join(damaged)} did not arrive as sent (sha256 differs)",
            where=f"{self.store.volume}:{self.path}/",
            hint="run it again",
        )

    def _sha256(self, name: str) -> str:
        digest = hashlib.sha256()
        for block in self.store.read(self._remote(name)):
            digest.update(block)
        return digest.hexdigest()
