"""Answering a list of prompts with an engine that others are using at the same time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence

from attrs import frozen

from application.ports.answering import AnswerPiece, Generation, GenerationRequest, StreamingEngine
from domain.answers import GenerationOptions
from domain.errors import MoeRouterError

LOOK_SECONDS = 0.5


def _wanted() -> bool:
    return True


@frozen(eq=False)
class StreamedAnswerEngine:
    """An :class:`application.ports.answering.AnswerEngine` over a streaming one.

    Its prompts join the batch of the engine's other callers, a few at a time, so that those go on being answered.

    Attributes:
        engine: generates; it runs on a thread of its own.
        width: most prompts that grow or wait there at the same time.
        wanted: whether anybody still waits for the answers; looked at now and then.
    """

    engine: StreamingEngine
    width: int = 8
    wanted: Callable[[], bool] = _wanted

    @property
    def adapters(self) -> tuple[str, ...]:
        """The LoRA adapters that can answer."""
        return self.engine.adapters

    def generate(
        self, requests: Sequence[GenerationRequest], options: GenerationOptions
    ) -> Iterator[tuple[int, Generation | MoeRouterError]]:
        """Yield answers as they finish; see the port for the contract. Ends early when nobody wants them any more."""
        waiting = list(enumerate(requests))[::-1]
        with asyncio.Runner() as runner:  # its end takes what still grows out of the batch
            loop, growing = runner.get_loop(), set[asyncio.Task[tuple[int, Generation | MoeRouterError]]]()
            while (waiting or growing) and self.wanted():
                while waiting and len(growing) < self.width:
                    growing.add(loop.create_task(self._answered(*waiting.pop(), options)))
                done, growing = loop.run_until_complete(
                    asyncio.wait(growing, timeout=LOOK_SECONDS, return_when=asyncio.FIRST_COMPLETED)
                )
                for task in done:
                    yield task.result()

    async def _answered(
        self, index: int, request: GenerationRequest, options: GenerationOptions
    ) -> tuple[int, Generation | MoeRouterError]:
        text, last = "", AnswerPiece("", 0)
        try:
            async for last in self.engine.stream(request, options):
                text += last.text
        except MoeRouterError as error:
            return index, error
        assert last.finish is not None, "the port's contract"
        return index, Generation(text, last.tokens, last.finish)
