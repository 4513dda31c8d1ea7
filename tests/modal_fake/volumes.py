"""Volumes: named trees of files, written in batches that become visible at once."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import PurePosixPath
from typing import Any

from attrs import define, field
from google.protobuf.empty_pb2 import Empty
from grpclib import GRPCError, Status
from modal_proto import api_pb2 as pb

from tests.modal_fake.blobs import new_id

BLOCK = 8 << 20


def normalised(path: str) -> str:
    return str(PurePosixPath("/") / path.lstrip("/")).lstrip("/")


@define
class Volume:
    """One volume; folders exist through their files.

    Attributes:
        history: the files after every change that clients could see, oldest first.
        commits: how often a container committed.
        reloads: how often a container reloaded.
    """

    id: str
    name: str
    version: int
    files: dict[str, bytes] = field(factory=dict)
    history: list[dict[str, bytes]] = field(factory=list)
    commits: int = 0
    reloads: int = 0

    def change(self, put: dict[str, bytes], remove: tuple[str, ...] = ()) -> None:
        self.files = {k: v for k, v in {**self.files, **put}.items() if k not in remove}
        self.history.append(dict(self.files))

    def below(self, path: str) -> list[str]:
        return [each for each in self.files if each == path or not path or each.startswith(path + "/")]

    @property
    def metadata(self) -> Any:
        return pb.VolumeMetadata(version=self.version, name=self.name)


class Volumes:
    """The volume calls of the control plane."""

    def __init__(self, fake: Any) -> None:
        self._fake = fake
        self._by_id: dict[str, Volume] = {}

    def named(self, name: str) -> Volume:
        return next(volume for volume in self._by_id.values() if volume.name == name)

    def create(self, name: str, version: int = 1) -> Volume:
        """Return an empty volume of this name; one that is there keeps its id."""
        there = next((volume.id for volume in self._by_id.values() if volume.name == name), None)
        volume = Volume(there or new_id("vo"), name, version)
        self._by_id[volume.id] = volume
        return volume

    def empty(self) -> None:
        """Empty all volumes; they keep their ids, which apps of the test process have looked up already."""
        for volume in list(self._by_id.values()):
            self.create(volume.name, volume.version)

    def by_id(self, volume_id: str) -> Volume:
        if volume_id not in self._by_id:
            raise GRPCError(Status.NOT_FOUND, f"Volume {volume_id} not found")
        return self._by_id[volume_id]

    def __contains__(self, volume_id: str) -> bool:
        return volume_id in self._by_id

    async def VolumeGetOrCreate(self, request: Any, container: Any) -> Any:
        volume = next((each for each in self._by_id.values() if each.name == request.deployment_name), None)
        if volume is None:
            if request.object_creation_type == pb.OBJECT_CREATION_TYPE_UNSPECIFIED:
                raise GRPCError(Status.NOT_FOUND, f"Volume '{request.deployment_name}' not found")
            volume = self.create(request.deployment_name, request.version or 1)
        return pb.VolumeGetOrCreateResponse(volume_id=volume.id, version=volume.version, metadata=volume.metadata)

    async def VolumeList(self, request: Any, container: Any) -> Any:
        items = [
            pb.VolumeListItem(label=each.name, volume_id=each.id, created_at=1.0, metadata=each.metadata)
            for each in self._by_id.values()
        ]
        return pb.VolumeListResponse(items=items, environment_name="main")

    async def VolumeHeartbeat(self, request: Any, container: Any) -> Any:
        return Empty()

    async def VolumeListFiles(self, request: Any, container: Any) -> AsyncIterator[Any]:
        yield pb.VolumeListFilesResponse(entries=self._entries(request))

    async def VolumeListFiles2(self, request: Any, container: Any) -> AsyncIterator[Any]:
        yield pb.VolumeListFiles2Response(entries=self._entries(request))

    def _entries(self, request: Any) -> list[Any]:
        volume, folder = self.by_id(request.volume_id), normalised(request.path)
        hits = volume.below(folder)
        if not hits and folder:
            raise GRPCError(Status.NOT_FOUND, f"No such file or directory: {folder!r}")
        if folder in volume.files:
            return [pb.FileEntry(path=folder, type=pb.FileEntry.FILE, size=len(volume.files[folder]))]
        depth = len(PurePosixPath(folder).parts) + 1
        entries = {}
        for hit in hits:
            parts = PurePosixPath(hit).parts
            for end in range(depth, len(parts) + 1) if request.recursive else [depth]:
                is_file = end == len(parts)
                entries["/".join(parts[:end])] = pb.FileEntry(
                    path="/".join(parts[:end]),
                    type=pb.FileEntry.FILE if is_file else pb.FileEntry.DIRECTORY,
                    size=len(volume.files[hit]) if is_file else 0,
                )
        return [entries[key] for key in sorted(entries)]

    async def VolumeGetFile2(self, request: Any, container: Any) -> Any:
        data = self.by_id(request.volume_id).files.get(normalised(request.path))
        if data is None:
            raise GRPCError(Status.NOT_FOUND, f"File not found: {request.path}")
        urls = [self._fake.blobs.publish(data[start : start + BLOCK]) for start in range(0, len(data), BLOCK)]
        return pb.VolumeGetFile2Response(size=len(data), start=0, len=len(data), get_urls=urls)

    async def VolumePutFiles(self, request: Any, container: Any) -> Any:
        volume = self.by_id(request.volume_id)
        stored = self._fake.blobs.by_sha256
        self._put(volume, {f.filename: stored[f.sha256_hex] for f in request.files}, request)

    async def VolumePutFiles2(self, request: Any, container: Any) -> Any:
        volume, stored = self.by_id(request.volume_id), self._fake.blobs.by_sha256
        missing = [
            pb.VolumePutFiles2Response.MissingBlock(
                file_index=i, block_index=j, put_url=f"{self._fake.blobs.url}/{block.contents_sha256.hex()}"
            )
            for i, file in enumerate(request.files)
            for j, block in enumerate(file.blocks)
            if block.contents_sha256.hex() not in stored
        ]
        if not missing:
            files = {f.path: b"".join(stored[b.contents_sha256.hex()] for b in f.blocks) for f in request.files}
            self._put(volume, files, request)
        return pb.VolumePutFiles2Response(missing_blocks=missing)

    def _put(self, volume: Volume, files: dict[str, bytes], request: Any) -> None:
        put = {normalised(path): data for path, data in files.items()}
        taken = [path for path in put if path in volume.files]
        if taken and request.disallow_overwrite_existing_files:
            raise GRPCError(Status.ALREADY_EXISTS, f"{taken[0]} already exists")
        volume.change(put)

    async def VolumeRemoveFile(self, request: Any, container: Any) -> Any:
        volume, path = self.by_id(request.volume_id), normalised(request.path)
        hits = tuple(volume.below(path)) if request.recursive else tuple({path} & set(volume.files))
        if not hits:
            raise GRPCError(Status.NOT_FOUND, f"No such file: {request.path}")
        volume.change({}, remove=hits)
        return Empty()

    VolumeRemoveFile2 = VolumeRemoveFile

    async def VolumeCommit(self, request: Any, container: Any) -> Any:
        container.commit(volume := self.by_id(request.volume_id))
        self._fake.containers.on_commit(container, volume)
        return pb.VolumeCommitResponse(skip_reload=True)

    async def VolumeReload(self, request: Any, container: Any) -> Any:
        container.reload(self.by_id(request.volume_id))
        return Empty()
