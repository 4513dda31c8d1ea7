"""The port that lets an interrupted run go on."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

from attrs import field, frozen

from domain.features import Matrix

Scalar = str | int | float | bool | None
"""What a checkpoint keeps beside tensors; floats come back bit for bit, infinities included."""


@frozen(eq=False)
class Checkpoint:
    """A point that a run can go on from.

    Attributes:
        key: identifies the job: data, base model, options. Another job never resumes it.
        values: numbers and names.
        tensors: arrays by name.
    """

    key: str
    values: Mapping[str, Scalar] = field(factory=dict)
    tensors: Mapping[str, Matrix] = field(factory=dict)


class CheckpointStore(Protocol):
    """Keeps checkpoints of a run in a folder, by name.

    The contract: `load` returns exactly what the last finished `save` was given, bit for bit, or None. What is
    damaged, or belongs to another key, counts as absent: a run then starts over, it never goes wrong.
    """

    def save(self, folder: Path, name: str, checkpoint: Checkpoint) -> None:
        """Keep the checkpoint, replacing the one of that name at once; raises StorageError."""
        ...

    def load(self, folder: Path, name: str, key: str) -> Checkpoint | None:
        """Return the checkpoint of that name and key, or None."""
        ...

    def clear(self, folder: Path) -> None:
        """Forget every checkpoint in the folder; does not mind when there is none."""
        ...
