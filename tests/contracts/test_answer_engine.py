"""Every answer engine keeps the port's contract."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from adapters.in_memory.answers import InMemoryAnswerEngine
from application.ports.answering import GenerationRequest
from domain.answers import Finish, GenerationOptions
from domain.chats import Message, as_chat
from domain.errors import UsageError
from tests.lora_world import NAMES

SYSTEMS = {"calendar": "You book."}
PROMPTS = ("Book a table", "File a claim for the broken window in the kitchen, please.")
SHORT = GenerationOptions(max_new_tokens=10)
REQUESTS = [GenerationRequest(as_chat(prompt), name) for prompt in PROMPTS for name in (None, *NAMES)]


@pytest.fixture(scope="module", params=["in-memory", "peft", "peft, shared with others"])
def engine(
    request: pytest.FixtureRequest, tiny_base: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Any]:
    if request.param == "in-memory":
        yield InMemoryAnswerEngine(NAMES, SYSTEMS)
        return
    from adapters.base_model.transformers_base import load_base
    from adapters.lora.peft_engine import PeftEngine
    from tests.lora_world import write_loras

    base = load_base(str(tiny_base), cache_dir=tiny_base.parent, device="cpu")
    peft = PeftEngine(base, write_loras(base, tmp_path_factory.mktemp("loras"), systems=SYSTEMS))
    if request.param == "peft":
        yield peft
        return
    from adapters.lora.peft_streaming import PeftStreamingEngine
    from application.answering.streamed_engine import StreamedAnswerEngine

    streaming = PeftStreamingEngine(peft)
    yield StreamedAnswerEngine(streaming, width=3)
    streaming.close()


def test_each_request_is_answered_once_by_whom_it_names(engine: Any) -> None:
    assert engine.adapters == NAMES
    pairs = list(engine.generate(REQUESTS, SHORT))
    found = dict(pairs)
    assert sorted(index for index, _ in pairs) == list(range(len(REQUESTS)))
    assert len({found[index].text for index in range(4)}) == 4


def test_an_answer_depends_on_its_request_only(engine: Any) -> None:
    together = dict(engine.generate(REQUESTS, SHORT))
    backwards = dict(engine.generate(REQUESTS[::-1], SHORT))
    alone = [dict(engine.generate([request], SHORT))[0] for request in REQUESTS]
    assert [together[index] for index in range(8)] == alone == [backwards[7 - index] for index in range(8)]


def test_an_adapters_system_turn_leads_chats_that_bring_none(engine: Any) -> None:
    own = (Message("system", "You book."), Message("user", PROMPTS[0]))
    found = dict(engine.generate([REQUESTS[1], GenerationRequest(own, "calendar")], SHORT))
    assert found[0] == found[1]


def test_limits(engine: Any) -> None:
    for limit in (1, 3):
        for _, generation in engine.generate(REQUESTS, GenerationOptions(max_new_tokens=limit)):
            assert 0 < generation.tokens <= limit
            assert isinstance(generation.finish, Finish)


def test_stop_strings_are_not_part_of_the_answer(engine: Any) -> None:
    whole = dict(engine.generate(REQUESTS[:1], SHORT))[0].text
    stop = whole[4]
    cut = dict(engine.generate(REQUESTS[:1], GenerationOptions(max_new_tokens=10, stop=(stop,))))[0]
    assert (cut.text, cut.finish) == (whole[: whole.index(stop)].strip(), "stop")


def test_requests_that_cannot_be_answered(engine: Any) -> None:
    for request in (
        GenerationRequest(as_chat("a"), "nobody"),
        GenerationRequest(as_chat("a"), None, (Path("x.png"),)),
    ):
        found = dict(engine.generate([REQUESTS[0], request, REQUESTS[1]], SHORT))
        assert isinstance(found[1], UsageError)
        assert {0: found[0], 1: found[2]} == dict(engine.generate(REQUESTS[:2], SHORT))
    assert list(engine.generate([], SHORT)) == []


def test_distances_are_symmetric_and_tell_adapters_apart(engine: Any) -> None:
    if not hasattr(engine, "distances"):
        pytest.skip("answers only")
    found = engine.distances()
    assert found.names == NAMES
    for row in range(3):
        assert found.to_base[row] > 0
        for column in range(3):
            assert found.between[row][column] == pytest.approx(found.between[column][row])
            assert (found.between[row][column] > 0) == (row != column)


def test_answers_that_nobody_wants_any_more_leave_the_engine_to_the_others() -> None:
    from adapters.in_memory.answers import InMemoryStreamingEngine
    from application.answering.streamed_engine import StreamedAnswerEngine

    looks = iter([True, True])

    def wanted() -> bool:
        if not next(looks, False):
            raise SystemExit(130)
        return True

    inner = InMemoryStreamingEngine(InMemoryAnswerEngine(NAMES, SYSTEMS), pause=0.01)
    engine = StreamedAnswerEngine(inner, width=1, wanted=wanted)
    answers = engine.generate(REQUESTS, SHORT)
    assert [next(answers)[0], next(answers)[0]] == [0, 1]
    with pytest.raises(SystemExit):
        next(answers)
