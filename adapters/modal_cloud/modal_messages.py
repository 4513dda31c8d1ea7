"""Messages over a Modal queue: how a container tells the caller how far it is, and how the caller repeats that."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from itertools import count
from typing import Any, Final

from attrs import field, frozen, mutable

from adapters.modal_cloud.modal_wire import event_from_wire, event_to_wire, travels
from application.ports import ProgressReporter, ProgressTask, TrainingObserver
from domain.training_events import TrainingEvent

_SHARE: Final = frozenset({"share", "answer"})
_PROGRESS: Final = frozenset({"progress", "advance", "done"})


def kinds_of_share(shares: int) -> frozenset[str]:
    """Return what a container says that works on one of so many shares.

    The call's start and end are another container's to tell, and so is its progress, unless there is only one share.
    """
    return _SHARE | _PROGRESS if shares == 1 else _SHARE


@mutable
class Updates:
    """Messages on their way to the caller, sent in batches; what cannot be sent is dropped, the work goes on.

    Attributes:
        queue: a ``modal.Queue``, or None when nobody listens.
        interval: least seconds between two batches.
        patience: seconds that a batch may wait for room in a full queue: nobody may be reading any more.
        only: kinds of messages that are sent; None for all.
        check: called before each message; raises where the work is to end.
    """

    queue: Any | None
    interval: float = 0.5
    patience: float = 5.0
    only: frozenset[str] | None = None
    check: Callable[[], None] = lambda: None
    _waiting: list[dict[str, Any]] = field(factory=list, init=False)
    _sent_at: float = field(default=float("-inf"), init=False)

    def send(self, message: dict[str, Any], *, now: bool = False) -> None:
        """Send a message soon, or with everything before it at once."""
        self.check()
        if self.queue is None:
            return
        if self.only is None or message["kind"] in self.only:
            self._waiting.append(message)
        if self._waiting and (now or time.monotonic() - self._sent_at >= self.interval):
            messages, self._waiting = self._waiting, []
            with suppress(Exception):  # the network to a listener must never fail the run
                self.queue.put_many(messages, timeout=self.patience)
            self._sent_at = time.monotonic()


@frozen
class _QueueTask:
    updates: Updates
    number: int

    def advance(self, steps: int = 1) -> None:
        self.updates.send({"kind": "advance", "id": self.number, "steps": steps})


@frozen
class QueueProgressReporter:
    """A :class:`application.ports.ProgressReporter` whose progress is shown on the caller's side."""

    updates: Updates
    _numbers: Iterator[int] = field(factory=count)

    @contextmanager
    def track(self, description: str, total: int | None) -> Iterator[_QueueTask]:
        """Tell the caller of a piece of work for as long as the context is open."""
        number = next(self._numbers)
        self.updates.send({"kind": "progress", "id": number, "description": description, "total": total})
        yield _QueueTask(self.updates, number)
        self.updates.send({"kind": "done", "id": number})


@frozen
class QueueObserver:
    """A :class:`application.ports.TrainingObserver` that repeats events on the caller's side.

    Attributes:
        updates: the way there.
        print_event: prints an event into the remote log, or None to leave it alone.
    """

    updates: Updates
    print_event: Callable[[TrainingEvent], None] | None

    def on_event(self, event: TrainingEvent) -> None:
        """Send and print one event."""
        if self.print_event is not None:
            self.print_event(event)
        if travels(event):
            self.updates.send(event_to_wire(event))


@frozen(eq=False)
class Relay:
    """Repeats here what a container reports: training events and progress.

    Attributes:
        progress: shows the container's progress.
        observer: receives the container's training events, or None.
    """

    progress: ProgressReporter
    observer: TrainingObserver | None = None
    _open: dict[int, tuple[ExitStack, ProgressTask]] = field(factory=dict, init=False)

    def __enter__(self) -> Relay:
        return self

    def __exit__(self, *_: object) -> None:
        self._close_all()

    def __call__(self, message: dict[str, Any]) -> None:
        """Take one message; kinds that this version does not know are skipped."""
        kind = message.get("kind")
        if kind == "event" and self.observer is not None:
            event: TrainingEvent = event_from_wire(message)
            self.observer.on_event(event)
        elif kind == "started":
            self._close_all()  # what an earlier container had under way is over
        elif kind == "progress":
            self._close(message["id"])  # of a container that was replaced
            stack = ExitStack()
            task = stack.enter_context(self.progress.track(message["description"], message["total"]))
            self._open[message["id"]] = (stack, task)
        elif kind == "advance" and message["id"] in self._open:
            self._open[message["id"]][1].advance(message["steps"])
        elif kind == "done":
            self._close(message["id"])

    def _close(self, number: int) -> None:
        if number in self._open:
            self._open.pop(number)[0].close()

    def _close_all(self) -> None:
        for number in list(self._open):
            self._close(number)
