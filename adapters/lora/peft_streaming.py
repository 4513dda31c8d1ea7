"""Serving with peft: one thread runs the model; requests join its batch, stream, and leave between two tokens."""

from __future__ import annotations

import asyncio
import threading
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from concurrent.futures import Future
from functools import partial
from typing import Any, TypeVar

from attrs import define, field

from adapters.lora.generation_control import AnswerRow
from adapters.lora.peft_engine import PeftEngine
from adapters.lora.row_batch import RowBatch, can_join
from application.ports.answering import AnswerPiece, GenerationRequest
from domain.answers import GenerationOptions
from domain.errors import AnswerTimeoutError, BusyError, UsageError

_Result = TypeVar("_Result")


@define(eq=False)
class _Ticket:
    """One caller and its request: what the model's thread tells it goes through its event loop."""

    request: GenerationRequest
    options: GenerationOptions
    pieces: asyncio.Queue[AnswerPiece | BaseException]
    loop: asyncio.AbstractEventLoop
    gone: bool = False
    row: AnswerRow | None = None

    def tell(self, item: AnswerPiece | BaseException) -> None:
        try:
            self.loop.call_soon_threadsafe(self.pieces.put_nowait, item)
        except RuntimeError:  # the caller's loop is closed, and the caller with it
            self.gone = True


@define(eq=False)
class PeftStreamingEngine:
    """An :class:`application.ports.answering.StreamingEngine` over a :class:`PeftEngine`.

    Requests of all adapters and of the base model share one batch, each with options of its own; a new one joins it
    after the next token. Rows that cannot (images, LoRA adapters that do not mix, base models whose memory of a text
    is not keys and values only) run in batches of their own, one after another; those of the last kind keep the
    model until they have ended.

    Attributes:
        engine: prepares requests and holds the model; nobody else may use it meanwhile, but through `run`.
        max_rows: most answers that grow at the same time.
        max_waiting: most requests, and most works, that wait; more are refused.
        close_seconds: how long closing waits for the model's thread at most.
    """

    engine: PeftEngine
    max_rows: int = 16
    max_waiting: int = 128
    close_seconds: float = 10.0
    _works: deque[tuple[Callable[[], Any], Future[Any]]] = field(factory=deque, init=False)
    _waiting: deque[_Ticket] = field(factory=deque, init=False)
    _growing: list[_Ticket] = field(factory=list, init=False)
    _batches: dict[str | None, RowBatch] = field(factory=dict, init=False)
    _thread: threading.Thread | None = field(default=None, init=False)
    _ended: str | None = field(default=None, init=False)
    _change: threading.Condition = field(factory=threading.Condition, init=False)
    _joinable: bool = field(init=False)
    _budget: int = field(default=0, init=False)

    def __attrs_post_init__(self) -> None:
        """Look how the model remembers a text."""
        self._joinable = can_join(self.engine.base.model)

    @property
    def adapters(self) -> tuple[str, ...]:
        """The LoRA adapters that can answer."""
        return self.engine.adapters

    @property
    def load(self) -> tuple[int, int]:
        """How many answers grow, and how many requests wait for their turn."""
        return len(self._growing), len(self._waiting)

    async def stream(
        self, request: GenerationRequest, options: GenerationOptions, *, timeout: float | None = None
    ) -> AsyncIterator[AnswerPiece]:
        """Yield the answer as it grows; see the port for the contract."""
        deadline = None if timeout is None else time.monotonic() + timeout
        ticket = _Ticket(request, options, asyncio.Queue(), asyncio.get_running_loop())
        self._put(self._waiting, ticket)
        try:
            while True:
                left = None if deadline is None else max(0.0, deadline - time.monotonic())
                try:
                    item = await asyncio.wait_for(ticket.pieces.get(), left)
                except TimeoutError as error:
                    raise AnswerTimeoutError(f"not finished after {timeout:g} seconds") from error
                if isinstance(item, BaseException):
                    raise item
                yield item
                if item.finish is not None:
                    return
        finally:
            ticket.gone = True  # the model's thread frees its place before the next token

    async def run(self, work: Callable[[], _Result]) -> _Result:
        """Run other work on the model's thread, between two tokens; see the port for the contract."""
        return await asyncio.wrap_future(self.submit(work))

    def submit(self, work: Callable[[], _Result]) -> Future[_Result]:
        """Have other work run on the model's thread, as :meth:`run` does, for callers without an event loop."""
        future: Future[_Result] = Future()
        self._put(self._works, (work, future))
        return future

    async def aclose(self) -> None:
        """End everything and give the model free; see the port for the contract."""
        await asyncio.to_thread(self.close)

    def close(self) -> None:
        """End everything, in at most `close_seconds`; closing twice is once."""
        with self._change:
            self._ended = self._ended or "is closed"
            thread = self._thread
            self._change.notify()
        if thread is not None:
            thread.join(self.close_seconds)
        self._fail_all(UsageError(f"the answer engine {self._ended}"))

    def _put(self, queue: deque[Any], item: Any) -> None:
        with self._change:
            if self._ended:
                raise UsageError(f"the answer engine {self._ended}")
            if len(queue) >= self.max_waiting and queue is self._waiting:
                present = [ticket for ticket in self._waiting if not ticket.gone]
                self._waiting.clear()
                self._waiting.extend(present)
            if len(queue) >= self.max_waiting:
                raise BusyError(f"{len(queue)} requests wait already", hint="ask again later")
            if self._thread is None:
                self._thread = threading.Thread(target=self._work, name="moe-router-model", daemon=True)
                self._thread.start()
            queue.append(item)
            self._change.notify()

    def _work(self) -> None:
        try:
            while not self._ended:
                with self._change:
                    self._change.wait_for(lambda: self._ended or self._works or self._waiting or self._growing)
                self._run_works()
                self._leave([ticket for ticket in self._growing if ticket.gone])
                self._admit()
                self._step()
        except BaseException as error:  # nothing above lets one through; callers must hear of it all the same
            self._ended = f"failed: {error!r}"
            self._fail_all(error)
            raise

    def _run_works(self) -> None:
        while self._works and not self._ended:
            work, future = self._works.popleft()
            if future.set_running_or_notify_cancel():
                try:
                    future.set_result(work())
                except BaseException as error:
                    future.set_exception(error)

    def _admit(self) -> None:
        """Let requests in while there is room, in the order of their coming; those that can join do so together."""
        joining: dict[str | None, list[_Ticket]] = {}
        while len(self._growing) < self.max_rows and not self._ended:
            with self._change:  # callers drop tickets of those who left
                ticket = next(iter(self._waiting), None)
            if ticket is None:
                break
            if not ticket.gone:
                try:
                    ticket.row = ticket.row or self.engine.prepare(ticket.request, ticket.options)
                except BaseException as error:
                    ticket.tell(error)
                    ticket.gone = True
            if ticket.row is not None and not ticket.gone:
                if not self._has_room(ticket.row):
                    break
                self._growing.append(ticket)
                if self._joinable and not ticket.row.beside:
                    joining.setdefault(None if ticket.row.mixes else ticket.row.adapter, []).append(ticket)
                else:
                    self._run_alone(ticket)
            with self._change:
                if self._waiting and self._waiting[0] is ticket:  # else it was dropped, and another stands here
                    self._waiting.popleft()
        for kind, tickets in joining.items():
            engine = self.engine
            batch = self._batches.setdefault(kind, RowBatch(engine.speaking, engine.base.device, engine.pad_id))
            self._guarded(batch, tickets, partial(batch.join, _rows(tickets)))

    def _has_room(self, row: AnswerRow) -> bool:
        """Tell whether the keys and values of one more row fit into the engine's budget of tokens."""
        lengths = [_final_length(ticket.row) for ticket in self._growing if ticket.row is not None]
        if not lengths:  # asked while nothing grows: what grows is not free any more
            self._budget = self.engine.batch_tokens
            return True
        return max([*lengths, _final_length(row)]) * (len(lengths) + 1) <= self._budget

    def _step(self) -> None:
        for batch in list(self._batches.values()):
            rows = list(batch.rows)
            tickets = [ticket for ticket in self._growing if ticket.row in rows]
            if tickets:
                self._guarded(batch, tickets, batch.step)

    def _guarded(self, batch: RowBatch, tickets: Sequence[_Ticket], work: Callable[[], None]) -> None:
        """Do one step of a batch and tell what was said; when it fails, all its callers hear of it."""
        try:
            work()
        except BaseException as error:
            hit = [ticket for ticket in self._growing if ticket in tickets or ticket.row in batch.rows]
            for ticket in hit:
                ticket.tell(error)
            self._batches = {kind: each for kind, each in self._batches.items() if each is not batch}
            self._growing = [ticket for ticket in self._growing if ticket not in hit]
            return
        self._tell(tickets)

    def _run_alone(self, ticket: _Ticket) -> None:
        """Run a row that cannot join others to its end."""
        assert ticket.row is not None

        def stopped(rows: Sequence[AnswerRow]) -> list[bool]:
            self._tell([ticket])
            return [ticket.gone or self._ended is not None for _ in rows]

        try:
            self.engine.run([ticket.row], stopped)
            if self._ended and ticket.row.answer.finish is None:
                ticket.tell(UsageError(f"the answer engine {self._ended}"))
        except BaseException as error:
            ticket.tell(error)
        self._growing = [each for each in self._growing if each is not ticket]

    def _tell(self, tickets: Iterable[_Ticket]) -> None:
        for ticket in tickets:
            assert ticket.row is not None
            answer = ticket.row.answer
            text = answer.take()
            if text or answer.finish is not None:
                ticket.tell(AnswerPiece(text, answer.tokens, answer.finish))
        self._growing = [each for each in self._growing if each.row is None or each.row.answer.finish is None]

    def _leave(self, tickets: Sequence[_Ticket]) -> None:
        if tickets:
            for batch in self._batches.values():
                batch.leave(_rows(tickets))
            self._growing = [ticket for ticket in self._growing if ticket not in tickets]

    def _fail_all(self, error: BaseException) -> None:
        with self._change:
            tickets = [*self._growing, *self._waiting]
            works = list(self._works)
            self._growing = []
            self._waiting.clear()
            self._works.clear()
        for ticket in tickets:
            ticket.tell(error)
        for _, future in works:
            if not future.done():
                future.set_exception(error)


def _rows(tickets: Iterable[_Ticket]) -> list[AnswerRow]:
    return [ticket.row for ticket in tickets if ticket.row is not None]


def _final_length(row: AnswerRow | None) -> int:
    return 0 if row is None else len(row.ids) + row.options.max_new_tokens
