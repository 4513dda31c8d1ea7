"""Many callers at once get what each would get alone."""

from __future__ import annotations

import asyncio
import threading
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from adapters.base_model.transformers_base import load_base
from adapters.base_model.transformers_features import TransformersFeatureExtractor
from adapters.in_memory.answers import InMemoryAnswerEngine
from adapters.lora.peft_engine import PeftEngine
from adapters.router.numpy_scorer import NumpyRouterScorer
from application.answering.answer_prompts import AnswerPrompts
from application.answering.answer_queue import AsyncAnswerEngine
from application.ports.answering import AnswerRequest
from application.routing.route_prompts import RoutePrompts
from domain.answer_policy import AnswerPolicy
from domain.answers import Answer, GenerationOptions, Prompt
from domain.chats import as_chat
from domain.errors import BusyError, DataRejectedError, UsageError
from domain.labels import DEFAULT_LABELS
from tests.answering_world import WORDS, small_route, small_router
from tests.lora_world import NAMES, write_loras

OPTIONS = (GenerationOptions(max_new_tokens=4), GenerationOptions(max_new_tokens=4, temperature=1.0))
PROMPTS = [f"{a} {b}" for words in WORDS for a in words for b in words][::9]


@pytest.fixture(scope="module")
def answering(tiny_base: Path, tmp_path_factory: pytest.TempPathFactory) -> AnswerPrompts:
    base = load_base(str(tiny_base), cache_dir=tiny_base.parent, device="cpu")
    engine = PeftEngine(base, write_loras(base, tmp_path_factory.mktemp("loras")))
    features = TransformersFeatureExtractor(base)
    return AnswerPrompts(RoutePrompts(small_router(features), features, NumpyRouterScorer()), engine)


def essence(answer: Answer) -> tuple[Any, ...]:
    return answer.adapter, answer.text, answer.tokens, answer.finish


def test_concurrent_callers_get_the_serial_answers(answering: AnswerPrompts) -> None:
    serial = {
        (prompt, options): essence(answering(AnswerRequest((Prompt(as_chat(prompt)),), options))[0])
        for prompt in PROMPTS
        for options in OPTIONS
    }
    assert {speaker for speaker, *_ in serial.values()} == set(NAMES)
    found: dict[Any, list[Any]] = {key: [] for key in serial}

    async def callers(engine: AsyncAnswerEngine) -> None:
        async def one(key: Any) -> None:
            found[key].append(essence(await engine.answer(key[0], options=key[1])))

        await asyncio.gather(*(one(key) for key in serial for _ in range(2)))

    async def main() -> None:
        async with AsyncAnswerEngine(answering, max_batch=8) as engine:
            threads = [threading.Thread(target=lambda: asyncio.run(callers(engine))) for _ in range(3)]
            for thread in threads:
                thread.start()
            await callers(engine)
            await asyncio.to_thread(lambda: [thread.join() for thread in threads])

    asyncio.run(main())
    assert found == {key: [value] * 8 for key, value in serial.items()}


class _SlowEngine(InMemoryAnswerEngine):
    """Takes its time, so that callers queue; remembers who ran it and how large the batches were."""

    def generate(self, *arguments: Any) -> Any:
        batches.append((threading.current_thread().name, len(arguments[0])))
        time.sleep(0.05)
        if any("poison" in request.chat[0].content for request in arguments[0]):
            raise DataRejectedError("poisoned")
        yield from super().generate(*arguments)


batches: list[tuple[str, int]] = []


@pytest.fixture
def slow() -> AnswerPrompts:
    batches.clear()
    return AnswerPrompts(small_route(), _SlowEngine(DEFAULT_LABELS.names))


def test_waiting_prompts_are_answered_in_batches_by_one_thread(slow: AnswerPrompts) -> None:
    async def main() -> list[Answer]:
        async with AsyncAnswerEngine(slow, max_batch=4) as engine:
            return await asyncio.gather(*(engine.answer(f"book {i}") for i in range(9)))

    answers = asyncio.run(main())
    assert [answer.text.split(": ")[1] for answer in answers] == [f"book {i}" for i in range(9)]
    assert {name for name, _ in batches} == {"moe-router-model"}
    assert sum(size for _, size in batches) == 9
    assert max(size for _, size in batches) == 4


def test_one_bad_prompt_fails_alone(slow: AnswerPrompts) -> None:
    async def main() -> list[Any]:
        async with AsyncAnswerEngine(slow) as engine:
            texts = ["book", "poison", "", "claim"]
            return await asyncio.gather(*(engine.answer(text) for text in texts), return_exceptions=True)

    book, poison, empty, claim = asyncio.run(main())
    assert (book.adapter, claim.adapter) == ("calendar", "claim-window")
    assert isinstance(poison, DataRejectedError)
    assert "no text to route on" in str(empty)


def test_a_cancelled_caller_costs_nothing(slow: AnswerPrompts) -> None:
    async def main() -> Answer:
        async with AsyncAnswerEngine(slow) as engine:
            first = asyncio.create_task(engine.answer("book"))
            await asyncio.sleep(0.02)  # the model is busy with the first
            second = asyncio.create_task(engine.answer("claim"))
            await asyncio.sleep(0)
            second.cancel()
            with pytest.raises(asyncio.CancelledError):
                await second
            return await first

    assert asyncio.run(main()).adapter == "calendar"
    assert [size for _, size in batches] == [1]


class _DyingEngine(InMemoryAnswerEngine):
    """Lets through what no handler of errors stops."""

    def generate(self, *arguments: Any) -> Any:
        if any("die" in request.chat[0].content for request in arguments[0]):
            raise SystemExit("the model is gone")
        yield from super().generate(*arguments)


def test_the_thread_survives_what_no_handler_stops() -> None:
    with closing(AsyncAnswerEngine(AnswerPrompts(small_route(), _DyingEngine(DEFAULT_LABELS.names)))) as engine:
        with pytest.raises(SystemExit):
            engine.submit("die").result(10)
        assert engine.submit("book").result(10).adapter == "calendar"


def test_the_queue_is_bounded(slow: AnswerPrompts) -> None:
    with closing(AsyncAnswerEngine(slow, max_batch=1, max_waiting=2)) as engine:
        futures = [engine.submit("book")]
        with pytest.raises(BusyError, match="2 prompts wait already"):
            futures += [engine.submit("book") for _ in range(9)]
    assert all(future.result().adapter == "calendar" for future in futures)


class _StuckEngine(InMemoryAnswerEngine):
    def generate(self, *arguments: Any) -> Any:
        stuck.wait(20)
        yield from super().generate(*arguments)


stuck = threading.Event()


def test_closing_ends_in_bounded_time_and_every_caller_hears_of_it() -> None:
    stuck.clear()
    engine = AsyncAnswerEngine(
        AnswerPrompts(small_route(), _StuckEngine(DEFAULT_LABELS.names)), max_batch=1, close_seconds=0.05
    )
    futures = [engine.submit("book") for _ in range(3)]
    engine.close()
    for future in futures:
        with pytest.raises(UsageError, match="closed"):
            future.result(0)
    stuck.set()


def test_callers_have_policies_of_their_own(slow: AnswerPrompts) -> None:
    async def main() -> list[Answer]:
        async with AsyncAnswerEngine(slow) as engine:
            policies = (AnswerPolicy(), AnswerPolicy(disabled=frozenset({"calendar"})))
            return await asyncio.gather(*(engine.answer("book", policy=policy) for policy in policies * 2))

    found = [answer.adapter for answer in asyncio.run(main())]
    assert found[::2] == ["calendar"] * 2
    assert "calendar" not in found[1::2]


def test_closing_answers_what_is_queued_and_refuses_what_comes_after(slow: AnswerPrompts) -> None:
    engine = AsyncAnswerEngine(slow, max_batch=2)
    futures = [engine.submit("book") for _ in range(5)]
    engine.close()
    assert all(future.done() and future.result().adapter == "calendar" for future in futures)
    with pytest.raises(UsageError, match="closed"):
        engine.submit("book")
    engine.close()
