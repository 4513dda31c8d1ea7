"""The volumes of a container: when what others wrote comes in, and when what it wrote goes out."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from attrs import field, mutable


@mutable
class Volumes:
    """The volumes of a container, as ``modal.Volume`` objects.

    Attributes:
        written: those that it writes to.
        read: those that it only reads.
        least_seconds: least time between two commits of which the second can wait.
    """

    written: Sequence[Any]
    read: Sequence[Any] = ()
    least_seconds: float = 0.0
    _committed_at: float = field(default=float("-inf"), init=False)

    def reload(self, *, but_busy: bool = False) -> None:
        """Bring in what others have committed, also since this container started; no file may be open.

        Args:
            but_busy: leave volumes with open files as they are.
        """
        for volume in (*self.written, *self.read):
            with suppress(*((RuntimeError,) if but_busy else ())):  # modal's error for open files
                volume.reload()

    def commit(self) -> None:
        """Make what was written here durable and visible to others."""
        for volume in self.written:
            volume.commit()

    def commit_soon(self) -> None:
        """Commit, unless this did so a moment ago."""
        if time.monotonic() - self._committed_at >= self.least_seconds:
            self.commit()
            self._committed_at = time.monotonic()
