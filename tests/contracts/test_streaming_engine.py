"""Every streaming engine keeps the port's contract."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from adapters.in_memory.answers import InMemoryAnswerEngine, InMemoryStreamingEngine
from application.ports.answering import AnswerPiece, Generation, GenerationRequest
from domain.answers import Finish, GenerationOptions
from domain.chats import as_chat
from domain.errors import AnswerTimeoutError, BusyError, UsageError
from tests.lora_world import NAMES

SYSTEMS = {"calendar": "You book."}
PROMPTS = ("Book a table", "File a claim for the broken window in the kitchen, please.", "a")
OPTIONS = (
    GenerationOptions(max_new_tokens=10),
    GenerationOptions(max_new_tokens=7, temperature=1.3, seed=5),
    GenerationOptions(max_new_tokens=10, stop=("a", "kit", "in the")),
)
REQUESTS = [GenerationRequest(as_chat(prompt), name) for prompt in PROMPTS for name in (None, *NAMES)]
LONG = GenerationOptions(max_new_tokens=150)


@pytest.fixture(scope="module", params=["in-memory", "peft", "peft, rows that cannot join"])
def engines(request: pytest.FixtureRequest, tiny_base: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """What answers one by one, and what makes a streaming engine of it."""
    if request.param == "in-memory":
        inner = InMemoryAnswerEngine(NAMES, SYSTEMS)

        def slow(**options: Any) -> Any:
            return InMemoryStreamingEngine(inner, pause=0.01, **options)

        return inner, slow
    from adapters.base_model.transformers_base import load_base
    from adapters.lora.peft_engine import PeftEngine
    from adapters.lora.peft_streaming import PeftStreamingEngine
    from tests.lora_world import write_loras

    base = load_base(str(tiny_base), cache_dir=tiny_base.parent, device="cpu")
    engine = PeftEngine(base, write_loras(base, tmp_path_factory.mktemp("loras"), systems=SYSTEMS))

    def make(**options: Any) -> Any:
        made = PeftStreamingEngine(engine, **options)
        made._joinable = request.param == "peft"
        return made

    return engine, make


@pytest.fixture
def with_engine(engines: Any) -> Iterator[Callable[..., Any]]:
    def run(work: Callable[[Any], Awaitable[Any]], **options: Any) -> Any:
        async def main() -> Any:
            engine = engines[1](**options)
            try:
                return await work(engine)
            finally:
                await engine.aclose()

        return asyncio.run(main())

    return run


async def pieces(engine: Any, request: GenerationRequest, options: GenerationOptions, **more: Any) -> list[Any]:
    return [piece async for piece in engine.stream(request, options, **more)]


def joined(found: list[AnswerPiece]) -> Generation:
    assert [piece.finish for piece in found[:-1]] == [None] * (len(found) - 1)
    tokens = [piece.tokens for piece in found]
    assert tokens == sorted(tokens)
    assert found[-1].finish is not None
    return Generation("".join(piece.text for piece in found), tokens[-1], found[-1].finish)


def test_answers_of_many_callers_are_those_of_the_engine_that_answers_one_by_one(
    engines: Any, with_engine: Any
) -> None:
    asked = [(request, options) for request in REQUESTS for options in OPTIONS]
    alone = {options: dict(engines[0].generate(REQUESTS, options)) for options in OPTIONS}

    async def work(engine: Any) -> Any:
        assert engine.adapters == NAMES

        async def late(number: int, request: GenerationRequest, options: GenerationOptions) -> Any:
            await asyncio.sleep(0.003 * number)  # joins while others are being answered
            return await pieces(engine, request, options)

        return await asyncio.gather(*(late(number, *each) for number, each in enumerate(asked)))

    found = with_engine(work)
    for (request, options), parts in zip(asked, found, strict=True):
        assert joined(parts) == alone[options][REQUESTS.index(request)]
    assert max(map(len, found)) > 2


def test_what_cannot_be_answered_is_an_error_of_one_caller(with_engine: Any) -> None:
    async def work(engine: Any) -> Any:
        bad = GenerationRequest(as_chat("a"), "nobody"), GenerationRequest(as_chat("a"), None, (Path("x.png"),))
        tasks = [pieces(engine, request, OPTIONS[0]) for request in (*bad, REQUESTS[0])]
        return await asyncio.gather(*tasks, return_exceptions=True)

    nobody, image, good = with_engine(work)
    assert isinstance(nobody, UsageError)
    assert isinstance(image, UsageError)
    assert joined(good).finish in Finish


def test_a_caller_that_leaves_gives_its_place_free(with_engine: Any) -> None:
    async def work(engine: Any) -> Any:
        stream = engine.stream(REQUESTS[1], LONG)
        await anext(stream)
        await stream.aclose()
        task = asyncio.create_task(pieces(engine, REQUESTS[2], LONG))
        await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        return joined(await pieces(engine, REQUESTS[0], OPTIONS[0]))

    assert with_engine(work, max_waiting=1).tokens > 0


def test_a_request_that_takes_the_place_of_one_that_left_is_not_lost(engines: Any) -> None:
    one_by_one, make = engines
    entered, go = threading.Event(), threading.Event()

    class Slow:
        def __getattr__(self, name: str) -> Any:
            return getattr(one_by_one, name)

        def prepare(self, *asked: Any) -> Any:
            entered.set()
            assert go.wait(20)
            return one_by_one.prepare(*asked)

    async def main() -> Any:
        engine = make(max_waiting=1)
        if not hasattr(one_by_one, "prepare"):
            pytest.skip("an engine that does not prepare requests on a thread")
        engine.engine = Slow()
        leaving = asyncio.create_task(pieces(engine, REQUESTS[2], LONG))
        await asyncio.to_thread(entered.wait, 20)  # the model's thread looks at it
        leaving.cancel()
        await asyncio.wait([leaving])
        coming = asyncio.create_task(pieces(engine, REQUESTS[0], OPTIONS[0]))
        await asyncio.sleep(0.05)
        go.set()
        found = await asyncio.wait_for(coming, 20)
        await engine.aclose()
        return joined(found)

    assert asyncio.run(main()).tokens > 0


def test_the_queue_is_bounded(with_engine: Any) -> None:
    async def work(engine: Any) -> Any:
        tasks = [pieces(engine, request, OPTIONS[0]) for request in REQUESTS * 4]
        return await asyncio.gather(*tasks, return_exceptions=True)

    found = with_engine(work, max_waiting=2)
    refused = [each for each in found if isinstance(each, BusyError)]
    assert 0 < len(refused) < len(found)
    assert all(joined(each) for each in found if not isinstance(each, BusyError))


def test_an_answer_has_so_much_time(with_engine: Any) -> None:
    async def work(engine: Any) -> None:
        with pytest.raises(AnswerTimeoutError, match="not finished after 0"):
            await pieces(engine, REQUESTS[1], LONG, timeout=0.0)
        assert await pieces(engine, REQUESTS[1], OPTIONS[0], timeout=60.0)

    with_engine(work)


def test_other_work_runs_between_and_its_errors_are_its_own(with_engine: Any) -> None:
    async def work(engine: Any) -> Any:
        async def fails() -> None:
            def bad() -> None:
                raise ZeroDivisionError

            with pytest.raises(ZeroDivisionError):
                await engine.run(bad)

        answer, seven, _ = await asyncio.gather(
            pieces(engine, REQUESTS[0], OPTIONS[0]), engine.run(lambda: 7), fails()
        )
        assert joined(answer)
        return seven

    assert with_engine(work) == 7


def test_closing_ends_every_answer_and_refuses_new_ones(with_engine: Any) -> None:
    async def work(engine: Any) -> None:
        tasks = [asyncio.create_task(pieces(engine, request, LONG)) for request in REQUESTS]
        await asyncio.sleep(0.02)
        await engine.aclose()
        ended = await asyncio.wait_for(asyncio.gather(*tasks, return_exceptions=True), 30)
        assert all(isinstance(each, UsageError | list) for each in ended)
        assert any(isinstance(each, UsageError) for each in ended)
        with pytest.raises(UsageError, match="closed"):
            await pieces(engine, REQUESTS[0], OPTIONS[0])
        with pytest.raises(UsageError, match="closed"):
            await engine.run(lambda: 1)

    with_engine(work)
