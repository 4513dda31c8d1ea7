"""One thread that runs the model, a queue before it, and callers that wait: safe for any number of them.

peft gives wrong answers, silently, when two threads run one model; so callers never touch it. Prompts that wait
at the same time are answered in one batch.
"""

from __future__ import annotations

import asyncio
import queue
import threading
from collections.abc import Sequence
from concurrent.futures import Future
from pathlib import Path
from types import TracebackType

from attrs import define, field, frozen

from application.answering.answer_prompts import AnswerPrompts, AnswerRequest
from application.answering.answers import Answer, Prompt
from domain.answers import GREEDY, GenerationOptions
from domain.chats import Message, as_chat
from domain.errors import UsageError


@frozen(eq=False)
class _Job:
    prompt: Prompt
    options: GenerationOptions
    future: Future[Answer]


@define(eq=False)
class AsyncAnswerEngine:
    """Answers prompts of many callers at once; an answer is the same as if its caller were alone.

        async with AsyncAnswerEngine(answer_prompts) as engine:
            answer = await engine.answer("Click December 3 in the calendar")

    Attributes:
        answer_prompts: the use case; nobody else may use it meanwhile.
        max_batch: most prompts of one batch.
    """

    answer_prompts: AnswerPrompts
    max_batch: int = 16
    _jobs: queue.SimpleQueue[_Job | None] = field(factory=queue.SimpleQueue, init=False)
    _thread: threading.Thread | None = field(default=None, init=False)
    _closed: bool = field(default=False, init=False)
    _guard: threading.Lock = field(factory=threading.Lock, init=False)

    async def answer(
        self,
        prompt: str | Sequence[Message],
        *,
        images: Sequence[Path] = (),
        options: GenerationOptions = GREEDY,
    ) -> Answer:
        """Answer one prompt; cancelling the caller takes a prompt that still waits out of the queue.

        Raises what :meth:`AnswerPrompts.stream` raises for this prompt; UsageError when the engine is closed.
        """
        return await asyncio.wrap_future(self.submit(prompt, images=images, options=options))

    def submit(
        self,
        prompt: str | Sequence[Message],
        *,
        images: Sequence[Path] = (),
        options: GenerationOptions = GREEDY,
    ) -> Future[Answer]:
        """Queue one prompt and return its future answer, for callers without an event loop."""
        job = _Job(Prompt(as_chat(prompt), tuple(images)), options, Future())
        with self._guard:
            if self._closed:
                raise UsageError("the answer engine is closed")
            if self._thread is None:
                self._thread = threading.Thread(target=self._work, name="moe-router-model", daemon=True)
                self._thread.start()
            self._jobs.put(job)
        return job.future

    def close(self) -> None:
        """Answer what is queued, then stop the thread. Closing twice is once."""
        with self._guard:
            self._closed = True
            thread, self._thread = self._thread, None
            if thread is not None:
                self._jobs.put(None)
        if thread is not None:
            thread.join()

    async def __aenter__(self) -> AsyncAnswerEngine:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await asyncio.to_thread(self.close)

    def _work(self) -> None:
        held: _Job | None = None  # taken from the queue, but with other options than the batch before it
        while True:
            job = held or self._jobs.get()
            held = None
            if job is None:
                return
            batch = [job]
            while len(batch) < self.max_batch:
                try:
                    more = self._jobs.get_nowait()
                except queue.Empty:
                    break
                if more is None:
                    self._jobs.put(None)  # answer these first, then end
                    break
                if more.options != job.options:
                    held = more
                    break
                batch.append(more)
            self._answer(batch)

    def _answer(self, batch: list[_Job]) -> None:
        waiting = [job for job in batch if job.future.set_running_or_notify_cancel()]
        if not waiting:
            return
        try:
            self._answer_all(waiting)
        except Exception:
            # One prompt that cannot be answered must not fail its neighbours: each alone, with its own error.
            for job in waiting:
                if not job.future.done():
                    self._answer_alone(job)

    def _answer_all(self, jobs: list[_Job]) -> None:
        request = AnswerRequest(tuple(job.prompt for job in jobs), jobs[0].options)
        for index, answer in self.answer_prompts.stream(request):
            jobs[index].future.set_result(answer)

    def _answer_alone(self, job: _Job) -> None:
        try:
            self._answer_all([job])
        except Exception as error:
            job.future.set_exception(error)
