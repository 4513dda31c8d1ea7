"""Progress bars on stderr with rich; plain lines where stderr is not a terminal."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from threading import Event, Thread
from typing import Final

from attrs import define, field, frozen
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

from application.ports import ProgressTask
from domain.printable import shown

FIRST_LINE: Final = 10.0
"""Seconds after which work that still goes on is told of in a plain line; then after twice that, and so on."""


@frozen
class _RichTask:
    progress: Progress
    task: TaskID

    def advance(self, steps: int = 1) -> None:
        self.progress.advance(self.task, steps)


@define(eq=False)
class _PlainTask:
    console: Console
    description: str
    total: int | None
    done: int = 0

    def advance(self, steps: int = 1) -> None:
        self.done += steps

    def tell(self, over: Event, seconds: float) -> None:
        """Say how far it is until it is over, at intervals that double."""
        passed = 0.0
        with suppress(OSError, ValueError):  # nobody reads it any more
            while not over.wait(seconds):
                of = "" if self.total is None else f": {self.done} of {self.total}"
                self.console.file.write(f"{shown(self.description)}{of}\n")
                self.console.file.flush()
                passed += seconds
                seconds = passed


@frozen(eq=False)
class RichProgressReporter:
    """A :class:`application.ports.ProgressReporter` that draws bars on stderr.

    Where that is not a terminal, a line says how far long work is, that a log can be told from a hang: after
    `first_line` seconds, and each time that twice as long has gone by. Work that begins
    while other work goes on is not told of.

    Attributes:
        console: where it is drawn.
        quiet: whether nothing is said where there is no terminal; asked when work begins.
        first_line: seconds.
    """

    console: Console = field(factory=lambda: Console(stderr=True))
    quiet: Callable[[], bool] = lambda: False
    first_line: float = FIRST_LINE
    _open: list[_PlainTask] = field(factory=list, init=False)

    @contextmanager
    def track(self, description: str, total: int | None) -> Iterator[ProgressTask]:
        """Show one bar, or tell in lines, for as long as the context is open."""
        if not self.console.is_terminal:
            with self._told(_PlainTask(self.console, description, total)) as plain:
                yield plain
            return
        with Progress(
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            console=self.console,
            transient=True,
        ) as progress:
            yield _RichTask(progress, progress.add_task(escape(shown(description)), total=total))

    @contextmanager
    def _told(self, task: _PlainTask) -> Iterator[_PlainTask]:
        over = Event()
        if not self._open and not self.quiet():
            Thread(target=task.tell, args=(over, self.first_line), daemon=True).start()
        self._open.append(task)
        try:
            yield task
        finally:
            over.set()
            self._open.remove(task)
