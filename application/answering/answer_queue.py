"""One thread that runs the model, a queue before it, and callers that wait: safe for any number of them.

peft gives wrong answers, silently, when two threads run one model; so callers never touch it. Prompts that wait
at the same time are answered in one batch.
"""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Iterable, Sequence
from concurrent.futures import Future
from pathlib import Path
from types import TracebackType

from attrs import define, field, frozen

from application.answering.answer_prompts import AnswerPrompts
from application.ports.answering import AnswerRequest
from domain.answer_policy import CHOSEN_ONLY, AnswerPolicy
from domain.answers import GREEDY, Answer, GenerationOptions, Prompt
from domain.chats import Message, as_chat
from domain.errors import BusyError, MoeRouterError, UsageError


@frozen(eq=False)
class _Job:
    prompt: Prompt
    options: GenerationOptions
    policy: AnswerPolicy
    future: Future[Answer]


@define(eq=False)
class AsyncAnswerEngine:
    """Answers prompts of many callers at once; an answer is the same as if its caller were alone.

        async with AsyncAnswerEngine(answer_prompts) as engine:
            answer = await engine.answer("Click December 3 in the calendar")

    Whatever happens to the model, every caller gets an answer or an error.

    Attributes:
        answer_prompts: the use case; nobody else may use it meanwhile.
        max_batch: most prompts of one batch.
        policy: who may answer the prompts of callers that do not say.
        max_waiting: most prompts that wait; more are refused.
        close_seconds: what is queued when the engine closes is answered for so long, then refused.
    """

    answer_prompts: AnswerPrompts
    max_batch: int = 16
    policy: AnswerPolicy = CHOSEN_ONLY
    max_waiting: int = 1024
    close_seconds: float = 30.0
    _jobs: deque[_Job] = field(factory=deque, init=False)
    _busy: list[_Job] = field(factory=list, init=False)
    _thread: threading.Thread | None = field(default=None, init=False)
    _closed: bool = field(default=False, init=False)
    _change: threading.Condition = field(factory=threading.Condition, init=False)

    async def answer(
        self,
        prompt: str | Sequence[Message],
        *,
        images: Sequence[Path] = (),
        options: GenerationOptions = GREEDY,
        policy: AnswerPolicy | None = None,
    ) -> Answer:
        """Answer one prompt; cancelling the caller takes a prompt that still waits out of the queue.

        Raises what stands in place of an answer, see :meth:`AnswerPrompts.stream`, and what `submit` raises.
        """
        return await asyncio.wrap_future(self.submit(prompt, images=images, options=options, policy=policy))

    def submit(
        self,
        prompt: str | Sequence[Message],
        *,
        images: Sequence[Path] = (),
        options: GenerationOptions = GREEDY,
        policy: AnswerPolicy | None = None,
    ) -> Future[Answer]:
        """Queue one prompt and return its future answer, for callers without an event loop.

        Raises:
            UsageError: the engine is closed.
            BusyError: too many prompts wait.
        """
        job = _Job(Prompt(as_chat(prompt), tuple(images)), options, policy or self.policy, Future())
        with self._change:
            if self._closed:
                raise _closed()
            if len(self._jobs) >= self.max_waiting:
                raise BusyError(f"{len(self._jobs)} prompts wait already", hint="ask again later")
            if self._thread is None:
                self._thread = threading.Thread(target=self._work, name="moe-router-model", daemon=True)
                self._thread.start()
            self._jobs.append(job)
            self._change.notify()
        return job.future

    def close(self) -> None:
        """Answer what is queued while `close_seconds` last, refuse the rest, stop. Closing twice is once."""
        with self._change:
            self._closed = True
            thread, self._thread = self._thread, None
            self._change.notify()
        if thread is None:
            return
        thread.join(self.close_seconds)
        with self._change:
            left = [*self._busy, *self._jobs]
            self._jobs.clear()
        _fail(left, _closed())

    async def __aenter__(self) -> AsyncAnswerEngine:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await asyncio.to_thread(self.close)

    def _work(self) -> None:
        while batch := self._next_batch():
            try:
                self._answer(batch)
            except BaseException as error:
                _fail(batch, error)
            self._busy = []

    def _next_batch(self) -> list[_Job]:
        """Wait for prompts; return those that can be answered together, and none when the engine is closed."""
        with self._change:
            self._change.wait_for(lambda: self._jobs or self._closed)
            batch: list[_Job] = []
            while self._jobs and len(batch) < self.max_batch:
                job = self._jobs[0]
                if batch and (job.options, job.policy) != (batch[0].options, batch[0].policy):
                    break
                batch.append(self._jobs.popleft())
            self._busy = batch
            return batch

    def _answer(self, batch: list[_Job]) -> None:
        waiting = [job for job in batch if job.future.set_running_or_notify_cancel()]
        try:
            self._answer_all(waiting)
        except Exception as error:
            if len(waiting) == 1:
                _fail(waiting, error)
            for job in waiting:  # what failed together may be answered one by one
                if not job.future.done():
                    self._answer_alone(job)

    def _answer_alone(self, job: _Job) -> None:
        try:
            self._answer_all([job])
        except Exception as error:
            _fail([job], error)

    def _answer_all(self, jobs: list[_Job]) -> None:
        if not jobs:
            return
        request = AnswerRequest(tuple(job.prompt for job in jobs), jobs[0].options, jobs[0].policy)
        for index, answer in self.answer_prompts.stream(request):
            if isinstance(answer, MoeRouterError):
                _fail([jobs[index]], answer)
            elif not jobs[index].future.done():
                jobs[index].future.set_result(answer)


def _closed() -> UsageError:
    return UsageError("the answer engine is closed")


def _fail(jobs: Iterable[_Job], error: BaseException) -> None:
    for job in jobs:
        if not job.future.done():
            job.future.set_exception(error)
