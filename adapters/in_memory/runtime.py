"""A clock that stands still and progress that is only counted."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime

from attrs import define, field, frozen


@frozen
class FixedClock:
    """A :class:`application.ports.Clock` that always gives the same time.

    Attributes:
        time: the time it gives; must have a time zone.
    """

    time: datetime = datetime(2025, 11, 24, 12, 34, 56, tzinfo=UTC)

    def now(self) -> datetime:
        """Return the fixed time."""
        return self.time


@define
class CountedTask:
    """One piece of work and how much of it was reported done.

    Attributes:
        description: what the work is.
        total: its steps, or None when unknown.
        done: steps reported so far.
    """

    description: str
    total: int | None
    done: int = 0

    def advance(self, steps: int = 1) -> None:
        """Count the steps."""
        self.done += steps


@frozen
class RecordingProgressReporter:
    """A :class:`application.ports.ProgressReporter` that shows nothing and remembers everything.

    Attributes:
        tasks: every piece of work that was opened, in order.
    """

    tasks: list[CountedTask] = field(factory=list)

    @contextmanager
    def track(self, description: str, total: int | None) -> Iterator[CountedTask]:
        """Open and remember a piece of work."""
        task = CountedTask(description, total)
        self.tasks.append(task)
        yield task
