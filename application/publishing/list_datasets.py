"""Listing the routing data sets on a remote volume."""

from __future__ import annotations

import json
from typing import Any

from attrs import frozen

from application.ports.publishing import RemoteDatasetStore, RemoteFile
from domain.errors import RemoteError
from domain.publishing import LATEST, REQUIRED_FILES, remote_folder


@frozen
class PublishedDataset:
    """One data set on a volume.

    Attributes:
        name: its folder's name.
        path: its folder on the volume.
        complete: whether the files are there that every data set has.
        size: bytes of all its files.
        created_at: time of generation as its metadata gives it, or None.
        samples: rows per file ("train", "val", "eval") as its metadata gives them.
        adapters: names of the adapters, in label order.
        latest: whether it is the one that ``routing_latest`` holds.
    """

    name: str
    path: str
    complete: bool
    size: int
    created_at: str | None
    samples: dict[str, int]
    adapters: tuple[str, ...]
    latest: bool


@frozen
class ListDatasets:
    """Finds the data sets below one folder of a volume and reads their metadata."""

    store: RemoteDatasetStore

    def __call__(self, remote_dir: str = "datasets") -> list[PublishedDataset]:
        """Return the data sets, sorted by name, ``routing_latest`` itself left out when it copies one of them.

        Raises RemoteError.
        """
        root = remote_folder(remote_dir, LATEST).removesuffix(LATEST)
        folders: dict[str, list[RemoteFile]] = {}
        for file in self.store.list_files(root.rstrip("/")):
            name, separator, _ = file.path.removeprefix(root).partition("/")
            if separator:
                folders.setdefault(name, []).append(file)
        metadata = {name: self._metadata(root + name, files) for name, files in folders.items()}
        latest = metadata.pop(LATEST, b"")
        copies = [name for name, content in metadata.items() if content and content == latest]
        shown = sorted(metadata) if copies or LATEST not in folders else [*sorted(metadata), LATEST]
        return [
            _describe(name, root + name, folders[name], metadata.get(name, latest), name in (*copies, LATEST))
            for name in shown
        ]

    def _metadata(self, folder: str, files: list[RemoteFile]) -> bytes:
        path = f"{folder}/metadata.json"
        if not any(file.path == path for file in files):
            return b""
        try:
            return b"".join(self.store.read(path))
        except RemoteError:
            if any(file.path == path for file in self.store.list_files(folder)):
                raise
            return b""  # deleted since it was listed


def _describe(name: str, path: str, files: list[RemoteFile], metadata: bytes, latest: bool) -> PublishedDataset:
    told = _parse(metadata)
    samples, adapters = told.get("samples"), told.get("adapters")
    names = {file.path.removeprefix(path + "/") for file in files}
    return PublishedDataset(
        name=name,
        path=path,
        complete=names.issuperset(REQUIRED_FILES),
        size=sum(file.size for file in files),
        created_at=str(told["created_at"]) if "created_at" in told else None,
        samples={k: v for k, v in samples.items() if isinstance(v, int)} if isinstance(samples, dict) else {},
        adapters=tuple(map(str, adapters)) if isinstance(adapters, dict) else (),
        latest=latest,
    )


def _parse(metadata: bytes) -> dict[str, Any]:
    """Return the metadata's fields; what is not a JSON object says nothing, and must not hide the other data sets."""
    try:
        told = json.loads(metadata)
    except (ValueError, RecursionError):
        return {}
    return told if isinstance(told, dict) else {}
