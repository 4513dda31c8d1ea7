"""Ports for what surrounds a run: the time, and telling people how far it is."""

from __future__ import annotations

from contextlib import AbstractContextManager
from datetime import datetime
from typing import Protocol


class Clock(Protocol):
    """Tells the time."""

    def now(self) -> datetime:
        """Return the current time with a time zone."""
        ...


class ProgressTask(Protocol):
    """One piece of long work that is being reported."""

    def advance(self, steps: int = 1) -> None:
        """Say that `steps` more of the work are done."""
        ...


class ProgressReporter(Protocol):
    """Shows how far long work has come. Never fails the work, never writes to stdout."""

    def track(self, description: str, total: int | None) -> AbstractContextManager[ProgressTask]:
        """Open a piece of work with `total` steps (None when unknown); it ends with the context."""
        ...
