"""Progress bars on stderr with rich."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from attrs import field, frozen
from rich.console import Console
from rich.markup import escape
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)

from domain.printable import shown


@frozen
class _RichTask:
    progress: Progress
    task: TaskID

    def advance(self, steps: int = 1) -> None:
        self.progress.advance(self.task, steps)


@frozen
class RichProgressReporter:
    """A :class:`application.ports.ProgressReporter` that draws bars on stderr, if that is a terminal."""

    console: Console = field(factory=lambda: Console(stderr=True))

    @contextmanager
    def track(self, description: str, total: int | None) -> Iterator[_RichTask]:
        """Show one bar for as long as the context is open."""
        with Progress(
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            console=self.console,
            disable=not self.console.is_terminal,
            transient=True,
        ) as progress:
            yield _RichTask(progress, progress.add_task(escape(shown(description)), total=total))
