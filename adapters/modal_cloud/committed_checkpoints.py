"""Checkpoints that survive the machine: every save is followed by a commit of the volume it lies on."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from attrs import frozen

from application.ports import Checkpoint, CheckpointStore


@frozen
class CommittedCheckpointStore:
    """A :class:`application.ports.CheckpointStore` around another one, on a volume that must be committed.

    Attributes:
        inner: writes and reads the files.
        commit: makes what was written durable; may wait for a later save when the last commit was a moment ago.
    """

    inner: CheckpointStore
    commit: Callable[[], None]

    def save(self, folder: Path, name: str, checkpoint: Checkpoint) -> None:
        """Save, then commit; see the port."""
        self.inner.save(folder, name, checkpoint)
        self.commit()

    def load(self, folder: Path, name: str, key: str) -> Checkpoint | None:
        """Return the checkpoint, or None; see the port."""
        return self.inner.load(folder, name, key)

    def clear(self, folder: Path) -> None:
        """Forget the checkpoints; a container that is replaced before the next commit only resumes once more."""
        self.inner.clear(folder)
