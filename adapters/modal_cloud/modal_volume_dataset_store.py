"""Data sets and routers on a Modal volume."""

from __future__ import annotations

import io
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import suppress
from functools import cached_property
from pathlib import Path
from typing import Any

import modal
import modal.exception
from attrs import field, frozen
from modal.types import FileEntryType

from adapters.modal_cloud.modal_connection import ModalConnection
from application.ports.publishing import RemoteFile
from domain.errors import RemoteError


@frozen(slots=False)
class ModalVolumeDatasetStore:
    """A :class:`application.ports.publishing.RemoteDatasetStore` on one Modal volume.

    A batch upload of Modal's puts all its files into the volume with one final call: that call is what makes an
    `upload` here appear in one step.

    Attributes:
        volume: name of the volume.
        connection: how to call Modal.
        create: whether the volume is made when it does not exist. Only for publishing: a mistyped name would
            otherwise become an empty volume.
    """

    volume: str
    connection: ModalConnection = field(factory=ModalConnection)
    create: bool = False

    @cached_property
    def _handle(self) -> Any:
        client = self.connection.open()
        volume = modal.Volume.from_name(self.volume, create_if_missing=self.create, client=client)

        async def hydrate() -> Any:
            try:
                return await volume.hydrate.aio()
            except modal.exception.NotFoundError as error:
                hint = "check the name with `modal volume list`; `moe-router publish --create-volume` makes a new one"
                raise RemoteError("no such Modal volume", where=self.volume, hint=hint) from error

        return self.connection.call(f"opening volume {self.volume}", hydrate)

    def list_files(self, folder: str) -> list[RemoteFile]:
        """Return the files below `folder`; see the port."""
        handle = self._handle

        async def listed() -> list[RemoteFile]:
            try:
                entries = await handle.listdir.aio(f"/{folder}", recursive=True)
            except modal.exception.NotFoundError:
                return []
            return [
                RemoteFile(entry.path.lstrip("/"), entry.size)
                for entry in entries
                if entry.type is FileEntryType.FILE
            ]

        files = self.connection.call(f"listing {self.volume}:{folder}", listed)
        return sorted(files, key=lambda file: file.path)

    def read(self, path: str) -> Iterator[bytes]:
        """Yield the content in blocks; see the port."""
        handle = self._handle

        def blocks() -> AsyncIterator[bytes]:
            return handle.read_file.aio(path)  # type: ignore[no-any-return]  # modal's generated wrappers are untyped

        return self.connection.stream(f"reading {self.volume}:{path}", blocks)

    def upload(self, files: Mapping[str, Path | bytes]) -> None:
        """Upload in one batch; see the port."""
        handle = self._handle
        size = sum(len(each) if isinstance(each, bytes) else each.stat().st_size for each in files.values())

        async def uploaded() -> None:
            async with handle.batch_upload.aio(force=True) as batch:
                for path, content in files.items():
                    batch.put_file(io.BytesIO(content) if isinstance(content, bytes) else content, path)

        self.connection.call(f"uploading to {self.volume}", uploaded, size)

    def remove(self, paths: Sequence[str]) -> None:
        """Delete files one by one; see the port."""
        handle = self._handle
        for path in paths:

            async def removed(path: str = path) -> None:
                with suppress(modal.exception.NotFoundError, FileNotFoundError):
                    await handle.remove_file.aio(path)

            self.connection.call(f"removing {self.volume}:{path}", removed)
