"""Fetching data sets and trained routers from a remote volume, verified."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from attrs import frozen

from application.ports.publishing import DatasetFolders, RemoteDatasetStore, RemoteFile
from application.ports.routers import RouterStore
from application.ports.runtime import ProgressReporter, ProgressTask
from domain.errors import DataRejectedError, RemoteError, RouterFileError
from domain.publishing import ANSWERS_FILE, PUBLISHED_FILES, REQUIRED_FILES, manifest_hashes, remote_folder


@frozen
class DownloadRequest:
    """What to fetch, and where to.

    Attributes:
        name: name of the data set, or path of the router file on its volume.
        target: folder or file that is to appear.
        remote_dir: folder on the volume that data sets lie in; routers ignore it.
        force: replace `target` when it is there.
    """

    name: str
    target: Path
    remote_dir: str = "datasets"
    force: bool = False


@frozen
class DownloadReport:
    """What was fetched.

    Attributes:
        target: where it lies now.
        files: sha256 of each file, by name.
        verified: what the content was checked against.
    """

    target: Path
    files: dict[str, str]
    verified: str


@frozen
class DownloadDataset:
    """Fetches a routing data set; the folder appears when all files are there and have the hashes of its manifest."""

    folders: DatasetFolders
    store: RemoteDatasetStore
    progress: ProgressReporter

    def __call__(self, request: DownloadRequest) -> DownloadReport:
        """Fetch it.

        Raises:
            RemoteError: no such data set, or the remote side failed.
            DataRejectedError: what is on the volume is incomplete or damaged.
            TargetExistsError: the target is there and `force` is false.
        """
        folder = remote_folder(request.remote_dir, request.name)
        there = {file.path.removeprefix(folder + "/"): file for file in self.store.list_files(folder)}
        where = f"{self.store.volume}:{folder}/"
        if not there:
            raise RemoteError("no such data set", where=where, hint="`moe-router datasets` lists what is there")
        if missing := [name for name in REQUIRED_FILES if name not in there]:
            raise DataRejectedError(f"lacks {', '.join(missing)}", where=where, hint="publish it again")
        wanted = {name: there[name] for name in (*PUBLISHED_FILES, ANSWERS_FILE) if name in there}
        with (
            self.folders.staged_folder(request.target, replace=request.force) as staged,
            self.progress.track(f"Downloading {request.name}", sum(file.size for file in wanted.values())) as task,
        ):
            hashes = {name: _fetch(self.store, file, staged / name, task) for name, file in wanted.items()}
            return DownloadReport(request.target, hashes, _check_manifest(staged, hashes, where))


@frozen
class DownloadRouter:
    """Fetches a trained router; the file appears when it has arrived whole and, if it is ours, loads."""

    folders: DatasetFolders
    store: RemoteDatasetStore
    routers: RouterStore
    progress: ProgressReporter

    def __call__(self, request: DownloadRequest) -> DownloadReport:
        """Fetch it.

        Raises:
            RemoteError: no such file, or the remote side failed.
            RouterFileError: the file is not a sound router.
            TargetExistsError: the target is there and `force` is false.
        """
        name = request.name.strip("/")
        file = next((each for each in self.store.list_files(name) if each.path == name), None)
        if file is None:
            hint = "train one on Modal, or name another volume"
            raise RemoteError("no such router", where=f"{self.store.volume}:{name}", hint=hint)
        with (
            self.folders.staged_file(request.target, replace=request.force) as staged,
            self.progress.track(f"Downloading {name}", file.size) as task,
        ):
            digest = _fetch(self.store, file, staged, task)
            if not name.endswith(".pt"):
                try:
                    self.routers.load(staged)
                except RouterFileError as error:  # not where it was staged
                    where = f"{self.store.volume}:{name}"
                    raise RouterFileError(error.what, where=where, hint=error.hint) from error
        # A .pt file is an export for others: checking it would mean to unpickle it, which this software never does.
        verified = "its size on the volume" if name.endswith(".pt") else "the hashes inside the router file"
        return DownloadReport(request.target, {Path(name).name: digest}, verified)


def _fetch(store: RemoteDatasetStore, file: RemoteFile, target: Path, task: ProgressTask) -> str:
    digest, size = hashlib.sha256(), 0
    with target.open("wb") as stream:
        for block in store.read(file.path):
            stream.write(block)
            digest.update(block)
            size += len(block)
            task.advance(len(block))
    if size != file.size:
        raise RemoteError(
            f"{size} of {file.size} bytes arrived", where=f"{store.volume}:{file.path}", hint="run it again"
        )
    return digest.hexdigest()


def _check_manifest(staged: Path, hashes: dict[str, str], where: str) -> str:
    """Compare with the manifest; rebuild ``data.jsonl``, which is not published: training, then validation rows."""
    expected = manifest_hashes(_metadata(staged, where))
    if not expected:
        return "sizes on the volume (its metadata has no hashes)"
    if "data.jsonl" in expected:
        content = b"".join((staged / name).read_bytes() for name in ("train.jsonl", "val.jsonl"))
        (staged / "data.jsonl").write_bytes(content)
        hashes["data.jsonl"] = hashlib.sha256(content).hexdigest()
    damaged = [name for name, digest in hashes.items() if expected.get(name, digest) != digest]
    absent = [name for name in PUBLISHED_FILES if name in expected and name not in hashes]
    if damaged or absent:
        raise DataRejectedError(
            f"{', '.join(damaged + absent)} disagree with the hashes in metadata.json",
            where=where,
            hint="publish it again, and force the replacement",
        )
    return "the hashes in its metadata.json"


def _metadata(staged: Path, where: str) -> dict[str, Any]:
    try:
        metadata = json.loads((staged / "metadata.json").read_bytes())
    except (ValueError, RecursionError) as error:
        raise DataRejectedError("metadata.json is not JSON", where=where, hint="publish it again") from error
    return metadata if isinstance(metadata, dict) else {}
