"""Checkpoints as safetensors files: one file per name, replaced in one rename, verified when read."""

from __future__ import annotations

import hashlib
import json
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from attrs import frozen
from safetensors import SafetensorError
from safetensors.numpy import load, save

from adapters.files.atomic_files import write_bytes
from adapters.files.leftovers import clear_leftovers
from adapters.files.regular_files import read_regular
from application.ports import Checkpoint
from domain.errors import StorageError

_ENTRY = "moe_router_checkpoint"


@frozen
class SafetensorsCheckpointStore:
    """A :class:`application.ports.CheckpointStore` of files ``<folder>/<name>.safetensors``.

    A hash over values and tensors stands in the file's metadata. Whatever does not match it (a damaged file, a file
    of something else, one that cannot be read) counts as absent.
    """

    def save(self, folder: Path, name: str, checkpoint: Checkpoint) -> None:
        """Write the checkpoint; see the port."""
        tensors = {key: np.array(value, order="C") for key, value in checkpoint.tensors.items()}
        values = json.dumps(dict(checkpoint.values))  # the standard library's: it keeps infinities
        entry = {"key": checkpoint.key, "values": values, "sha256": _digest(checkpoint.key, values, tensors)}
        write_bytes(_file(folder, name), save(tensors, metadata={_ENTRY: json.dumps(entry)}))

    def load(self, folder: Path, name: str, key: str) -> Checkpoint | None:
        """Read the checkpoint back; see the port."""
        try:
            content = read_regular(_file(folder, name))
            entry = _entry(content)
            tensors = load(content)
            if entry["key"] != key or entry["sha256"] != _digest(key, entry["values"], tensors):
                return None
            return Checkpoint(key, json.loads(entry["values"]), tensors)
        except (OSError, SafetensorError, ValueError, KeyError, TypeError, RecursionError):
            return None

    def clear(self, folder: Path) -> None:
        """Remove the checkpoints, and their folder unless it holds anything else; raises StorageError."""
        try:
            clear_leftovers(folder)
            for path in folder.glob("*.safetensors"):
                path.unlink()
            with suppress(OSError):  # not empty
                folder.rmdir()
        except OSError as error:
            raise StorageError(f"cannot remove: {error.strerror or error}", where=folder) from error


def _file(folder: Path, name: str) -> Path:
    return folder / f"{name}.safetensors"


def _entry(content: bytes) -> Any:
    length = int.from_bytes(content[:8], "little")  # the format's header: 8 bytes of length, then JSON
    return json.loads(json.loads(content[8 : 8 + length])["__metadata__"][_ENTRY])


def _digest(key: str, values: str, tensors: dict[str, np.ndarray]) -> str:
    digest = hashlib.sha256(json.dumps([key, values]).encode())
    for name in sorted(tensors):
        tensor = tensors[name]
        digest.update(f"\n{name} {tensor.dtype} {tensor.shape}\n".encode())
        digest.update(tensor.tobytes())
    return digest.hexdigest()
