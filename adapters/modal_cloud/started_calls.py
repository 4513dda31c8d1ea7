"""Calls that a container makes and that outlive it: the container in its place waits for the same ones."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol

import orjson
from attrs import frozen


class Calls(Protocol):
    """Calls of one function, each in a container of its own."""

    def start(self, request: dict[str, Any]) -> str:
        """Start a call; return its id."""
        ...

    def wait(self, call_id: str) -> dict[str, Any]:
        """Return the result of a call."""
        ...

    def cancel(self, call_id: str) -> None:
        """End a call."""
        ...


@frozen
class ModalCalls:
    """A :class:`Calls` on Modal.

    Attributes:
        function: the function.
        more: what it takes besides a request.
    """

    function: Any
    more: tuple[Any, ...] = ()

    def start(self, request: dict[str, Any]) -> str:
        """Start a call; return its id."""
        return str(self.function.spawn(request, *self.more).object_id)

    def wait(self, call_id: str) -> dict[str, Any]:
        """Return the result of a call."""
        import modal

        result: dict[str, Any] = modal.FunctionCall.from_id(call_id).get()
        return result

    def cancel(self, call_id: str) -> None:
        """End a call."""
        import modal

        modal.FunctionCall.from_id(call_id).cancel()


@frozen
class StartedCalls:
    """Starts calls once, whatever becomes of the container that started them.

    Attributes:
        calls: makes the calls.
        record: file for their ids, on a volume; None keeps none.
        commit: makes the record durable.
    """

    calls: Calls
    record: Path | None
    commit: Callable[[], None]

    def __call__(self, requests: Sequence[dict[str, Any]], take: Callable[[int, dict[str, Any]], None]) -> None:
        """Give each call's number and result to `take`, in order; they were started before or are started now.

        When something ends this, a cancellation or an error of `take`, all calls are cancelled. A container that is
        taken away leaves them alone where the record tells the next container of them, and else cancels them, too.
        """
        ids: list[str] = []
        try:
            self._start(requests, ids)
            for number, call_id in enumerate(ids):
                take(number, self.calls.wait(call_id))
        except BaseException as error:
            goes_away = isinstance(error, (KeyboardInterrupt, SystemExit))  # a signal to the container
            if not (goes_away and self.record is not None and self.record.is_file()):
                self._cancel(ids, error)
            raise

    def _cancel(self, ids: Sequence[str], reason: BaseException) -> None:
        """Cancel all that can be cancelled, and note the others in the reason, which stays what is raised."""
        for call_id in ids:
            try:
                self.calls.cancel(call_id)
            except Exception as error:  # the calls after it must not run on for that
                reason.add_note(f"call {call_id} could not be cancelled: {error}")

    def _start(self, requests: Sequence[dict[str, Any]], ids: list[str]) -> None:
        """Add the ids of all calls to `ids`, one by one."""
        if self.record is not None and self.record.is_file():
            ids += orjson.loads(self.record.read_bytes())
            return
        for request in requests:
            ids.append(self.calls.start(request))
        if self.record is not None:
            self.record.parent.mkdir(parents=True, exist_ok=True)
            self.record.write_bytes(orjson.dumps(ids))
            self.commit()
