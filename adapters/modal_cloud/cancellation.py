"""Cancellation of a call, inside its container: it is noticed even where Modal's client drops it."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

from modal.exception import InputCancellation


@contextmanager
def kept_cancellation() -> Iterator[Callable[[], None]]:
    """Give a function that raises InputCancellation once the call was cancelled.

    Modal's runtime cancels by SIGUSR1, whose handler raises InputCancellation in the main thread. Where that hits a
    blocking call of Modal's client whose work has just been done, the client returns its result and drops the
    exception (``synchronicity``, ``_run_function_sync``): the work would go on to its end, and be paid for. Only the
    main thread can receive signals; elsewhere the function never raises.
    """
    before = signal.getsignal(signal.SIGUSR1)
    if threading.current_thread() is not threading.main_thread() or not callable(before):
        yield lambda: None
        return
    came = False

    def handle(number: int, frame: FrameType | None) -> None:
        nonlocal came
        came = True
        before(number, frame)

    def check() -> None:
        if came:
            raise InputCancellation("the call was cancelled")

    signal.signal(signal.SIGUSR1, handle)
    try:
        yield check
    finally:
        signal.signal(signal.SIGUSR1, before)
