"""SIGTERM and SIGINT: end the run at once, or at the next safe point where a run asks for that."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

from domain.errors import InterruptedRunError

_SIGNALS = (signal.SIGTERM, signal.SIGINT)
_GO_ON = "what was finished is kept; run the same command to go on"


class _SignalCameError(SystemExit):
    """A signal on its way out of the run: no ``except Exception`` (ours or a library's) may take it for a failure."""

    def __init__(self, number: int) -> None:
        super().__init__(128 + number)
        self.number = number


class ProcessInterruption:
    """A :class:`application.ports.Interruption` for this process; use it as a context around a run.

    SIGTERM and SIGINT unwind the run from where it happens to be, and leave the context as InterruptedRunError;
    inside :meth:`deferred` the first one waits, and a second one unwinds after all. Only the main thread can receive
    signals; in another thread the context changes nothing. Contexts nest: the innermost one speaks.
    """

    def __init__(self) -> None:
        self._waiting = False
        self._came: int | None = None

    @contextmanager
    def __call__(self, what: str = "interrupted", *, hint: str | None = _GO_ON) -> Iterator[ProcessInterruption]:
        """Take over the signals until the context ends.

        Args:
            what: what the error says that a signal becomes.
            hint: what the user can do then, or None.
        """
        try:
            before = {number: signal.signal(number, self._handle) for number in _SIGNALS}
        except ValueError:  # not the main thread
            yield self
            return
        try:
            yield self
        except _SignalCameError as came:
            raise InterruptedRunError(what, signal_number=came.number, hint=hint) from None
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
        raise _SignalCameError(number)
