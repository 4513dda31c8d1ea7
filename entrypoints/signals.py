"""SIGTERM and SIGINT: end the run at once, or at the next safe point where a run asks for that."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

from domain.errors import InterruptedRunError

_SIGNALS = (signal.SIGTERM, signal.SIGINT)


class ProcessInterruption:
    """A :class:`application.ports.Interruption` for this process; use it as a context around a run.

    Inside the context SIGTERM and SIGINT raise InterruptedRunError where the program happens to be; inside
    :meth:`deferred` the first one waits, and a second one raises after all. Only the main thread can receive
    signals; in another thread the context changes nothing.
    """

    def __init__(self) -> None:
        self._waiting = False
        self._came: int | None = None

    @contextmanager
    def __call__(self) -> Iterator[ProcessInterruption]:
        """Take over the signals until the context ends."""
        try:
            before = {number: signal.signal(number, self._handle) for number in _SIGNALS}
        except ValueError:  # not the main thread
            yield self
            return
        try:
            yield self
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    @contextmanager
    def deferred(self) -> Iterator[Callable[[], int | None]]:
        """Hold the first signal back."""
        self._waiting = True
        try:
            yield lambda: self._came
        finally:
            self._waiting = False

    def _handle(self, number: int, _frame: FrameType | None) -> None:
        if self._waiting and self._came is None:
            self._came = number
            return
        raise InterruptedRunError(
            "interrupted", signal_number=number, hint="what was finished is kept; run the same command to go on"
        )
