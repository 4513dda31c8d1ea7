"""Routers on the local file system: one safetensors file, or a folder as Hugging Face's libraries lay it out."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from adapters.files.atomic_files import write_bytes
from adapters.files.regular_files import open_regular
from adapters.files.staged_folder import check_replaceable
from adapters.files.writable import check_writable
from adapters.router.router_bytes import from_bytes, header_end, read_document, require_whole, to_bytes
from adapters.router.router_folder import CONFIG, ROUTER_FOLDER, WEIGHTS, check_config, write_folder
from application.ports import TrainedRouter
from domain.errors import MissingFileError, RouterFileError, StorageError, UsageError


class SafetensorsRouterStore:
    """A :class:`application.ports.RouterStore`.

    The target's name says the form: ``….safetensors`` is a file; ``….pt`` is a file of the same name ending in
    ``.safetensors``, with a torch file beside it for others, which is never read back; an existing folder, or a name
    without a suffix, is a folder with ``model.safetensors``, ``config.json`` and a model card.
    """

    def check_target(self, target: Path) -> None:
        """Raise unless the name is one of the three forms and can be written; see the port for the contract."""
        check_writable(target, folder=True)
        _check_name(target)
        for path in self._written(target):
            if path.is_dir() or not path.suffix:
                check_replaceable(path, ROUTER_FOLDER)

    def replaced_by(self, target: Path) -> tuple[Path, ...]:
        """Return the files or the folder that are there already; see the port for the contract."""
        return tuple(path for path in self._written(target) if path.exists())

    def save(self, router: TrainedRouter, target: Path) -> Path:
        """Write the router, replacing an earlier one; see the port for the contract."""
        paths = self._written(target)
        for path in paths:
            self.export(router, path)
        return paths[0]

    @staticmethod
    def _written(target: Path) -> tuple[Path, ...]:
        """Return what a save to `target` writes, the router to load first."""
        if target.suffix != ".pt" or target.is_dir():
            return (target,)
        return target.with_suffix(".safetensors"), target

    def export(self, router: TrainedRouter, target: Path) -> None:
        """Write the router in the one form that the target's name says; raises as `save` does."""
        _check_name(target)
        if target.is_dir() or not target.suffix:
            write_folder(router, target)
        elif target.suffix == ".safetensors":
            write_bytes(target, to_bytes(router))
        else:
            from adapters.router.torch_router_file import torch_bytes  # here, so that routing needs no torch

            write_bytes(target, torch_bytes(router))

    @staticmethod
    def located(source: Path) -> Path:
        """Return where a router lies on this disk: the path itself, or what is fetched for an ``hf://`` name.

        Raises:
            RemoteError: the hub does not have it, or cannot be reached.
        """
        if not _is_on_hub(source):
            return source
        from adapters.router.hub_routers import fetch_router

        return fetch_router(source)

    def load(self, source: Path) -> TrainedRouter:
        """Read a router back from a file, a folder or the hub, every byte verified; see the port for the contract."""
        source = self.located(source)
        weights = source / WEIGHTS if source.is_dir() else source
        if source.is_dir() and not weights.exists():
            raise MissingFileError(
                "a folder without a router",
                where=source,
                hint=f"a router's folder holds {WEIGHTS}; `moe-router train` makes a router out of a data set",
            )
        try:
            router = from_bytes(_read_router(weights))
            if source.is_dir():
                with _opened(source / CONFIG) as file:
                    check_config(router, file.read())
        except RouterFileError as error:
            beside = source.with_suffix(".safetensors")
            hint = f"use {beside}, beside it" if source.suffix != ".safetensors" and beside.is_file() else error.hint
            raise RouterFileError(error.what, where=source, hint=hint) from error
        return router


def _is_on_hub(source: Path) -> bool:
    return str(source).startswith("hf:/")  # a path has lost the second slash


def _check_name(target: Path) -> None:
    if _is_on_hub(target):
        raise UsageError("a router is not written to the hub from here", where=target, hint="moe-router push-to-hub")
    if not target.is_dir() and target.suffix not in ("", ".safetensors", ".pt"):
        raise UsageError(
            f"a router cannot be written as {target.suffix!r}",
            where=target,
            hint="name a .safetensors file, a .pt file, or a folder without a suffix",
        )


def _read_router(source: Path) -> bytes:
    """Return a router file's bytes; a file that is none is refused after its header, however large it is."""
    with _opened(source) as file:
        size = os.fstat(file.fileno()).st_size
        start = file.read(9)
        start += file.read(header_end(start, size) - len(start))
        read_document(start)
        require_whole(start, size)
        return start + file.read(size - len(start) + 1)


@contextmanager
def _opened(source: Path) -> Iterator[BinaryIO]:
    try:
        with open_regular(source) as file:
            yield file
    except (FileNotFoundError, NotADirectoryError) as error:
        raise MissingFileError("no such router file", where=source, hint="`moe-router train` makes one") from error
    except IsADirectoryError as error:
        raise MissingFileError("a folder, not a router file", where=source) from error
    except OSError as error:
        raise StorageError(f"cannot read: {error.strerror or error}", where=source) from error
