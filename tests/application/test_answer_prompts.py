"""Who answers, and that the answer says so."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from attrs import evolve

from adapters.in_memory.answers import InMemoryAnswerEngine
from application.answering.answer_prompts import AnswerPrompts
from application.ports.answering import AnswerRequest
from domain.answer_policy import AnswerPolicy, Fallback
from domain.answers import Answer, GenerationOptions, Prompt
from domain.chats import Message, as_chat
from domain.errors import DataRejectedError, LoraAdapterError, MoeRouterError, UsageError
from domain.labels import DEFAULT_LABELS
from domain.turns import TurnChoice
from tests.answering_world import NOTHING, small_route

ALL = DEFAULT_LABELS.names
TEXTS = ("book a table for Monday", "the kitchen window is broken", "pick a doctor near the provider")
WIDE = GenerationOptions(max_new_tokens=500)


def ask(*texts: str, engine: Any = None, route: Any = None, **options: Any) -> list[Answer]:
    use_case = AnswerPrompts(route or small_route(), engine or InMemoryAnswerEngine(ALL))
    return use_case(AnswerRequest(tuple(Prompt(as_chat(text)) for text in texts), WIDE, AnswerPolicy(**options)))


def test_each_prompt_is_answered_by_the_adapter_that_the_router_chose() -> None:
    answers = ask(*TEXTS)
    assert [answer.text for answer in answers] == [f"{name}: {text}" for name, text in zip(ALL, TEXTS, strict=True)]
    for answer, name in zip(answers, ALL, strict=True):
        assert answer.decision is not None
        assert (answer.decision.adapter, answer.adapter, answer.fallback) == (name, name, None)


@pytest.mark.parametrize(
    ("text", "speaker"),
    [(None, None), ("base", None), ("calendar", "calendar")],
)
def test_an_abstention_is_answered_by_the_fallback_and_says_so(text: str | None, speaker: str | None) -> None:
    (answer,) = ask("anything", route=small_route(NOTHING), fallback=Fallback.parse(text))
    assert answer.decision is not None
    assert answer.decision.adapter is None
    assert answer.adapter == speaker
    assert answer.text == f"{speaker or 'base'}: anything"
    assert answer.fallback is not None
    assert answer.fallback.startswith("out of scope: score")


def test_an_abstention_can_be_an_error_that_names_the_prompt() -> None:
    with pytest.raises(DataRejectedError, match="prompt 'anything': the router chose no adapter: out of scope"):
        ask("anything", route=small_route(NOTHING), fallback=Fallback.parse("error"))


@pytest.mark.parametrize("text", [None, "error"])
def test_a_missing_adapter_is_an_error_before_anything_is_answered(text: str | None) -> None:
    with pytest.raises(LoraAdapterError, match="no LoRA adapter for claim-window"):
        ask(engine=InMemoryAnswerEngine(("calendar", "provider-select")), fallback=Fallback.parse(text))


@pytest.mark.parametrize(("text", "speaker"), [("base", None), ("calendar", "calendar")])
def test_a_fallback_stands_in_for_a_missing_adapter_and_says_so(text: str, speaker: str | None) -> None:
    engine = InMemoryAnswerEngine(("calendar", "provider-select"))
    answers = ask(*TEXTS, engine=engine, fallback=Fallback.parse(text))
    assert [answer.adapter for answer in answers] == ["calendar", speaker, "provider-select"]
    assert [answer.fallback for answer in answers] == [None, "LoRA adapter claim-window was not given", None]


def test_a_disabled_adapter_need_not_be_there_and_never_answers() -> None:
    engine = InMemoryAnswerEngine(("calendar", "provider-select"))
    answers = ask(*TEXTS, engine=engine, disabled=frozenset({"claim-window"}))
    assert "claim-window" not in {answer.adapter for answer in answers}
    with pytest.raises(UsageError, match="unknown adapter 'nobody'"):
        ask(disabled=frozenset({"nobody"}))
    with pytest.raises(UsageError, match="'calendar' is disabled"):
        ask(disabled=frozenset({"calendar"}), fallback=Fallback.parse("calendar"))


def test_an_unknown_fallback_is_refused() -> None:
    with pytest.raises(UsageError, match="the fallback 'generic' is not one of the LoRA adapters that were given"):
        ask(fallback=Fallback.parse("generic"))


class _BrokenScorer:
    def score(self, *_arguments: Any, **_options: Any) -> Any:
        raise DataRejectedError("features are not finite")


def test_a_router_that_fails_is_an_error_or_answered_by_the_fallback() -> None:
    route = evolve(small_route(), scorer=_BrokenScorer())
    with pytest.raises(MoeRouterError, match="not finite"):
        ask("anything", route=route)
    (answer,) = ask("anything", route=route, fallback=Fallback.parse("base"))
    assert (answer.decision, answer.adapter) == (None, None)
    assert answer.fallback == "the router failed: features are not finite"


class _ChokingFeatures:
    """Fails every batch that has a certain prompt in it."""

    def __init__(self, features: Any) -> None:
        self.inner = features
        self.base, self.max_tokens = features.base, features.max_tokens

    def extract(self, texts: Any, taps: Any) -> Any:
        if any("choke" in text for text in texts):
            raise DataRejectedError("cannot be read")
        return self.inner.extract(texts, taps)


@pytest.mark.parametrize("bad", ["choke", "<image>"])
def test_one_prompt_that_cannot_be_routed_decides_for_itself_only(bad: str) -> None:
    route = small_route()
    use_case = AnswerPrompts(evolve(route, features=_ChokingFeatures(route.features)), InMemoryAnswerEngine(ALL))
    texts = (TEXTS[0], bad, *TEXTS[1:])
    for fallback in (None, "base"):
        policy = AnswerPolicy(Fallback.parse(fallback))
        request = AnswerRequest(tuple(Prompt(as_chat(text)) for text in texts), WIDE, policy)
        found = dict(use_case.stream(request))
        neighbours = [found.pop(index) for index in (0, 2, 3)]
        assert [(each.adapter, each.fallback) for each in neighbours if isinstance(each, Answer)] == [
            (name, None) for name in ALL
        ]
        if bad == "choke" and fallback == "base":
            assert isinstance(found[1], Answer)
            assert found[1].fallback == "the router failed: cannot be read"
        else:
            assert isinstance(found[1], DataRejectedError)
            with pytest.raises(DataRejectedError):
                use_case(request)


def test_a_refused_adapter_says_why_the_fallback_answers() -> None:
    engine = InMemoryAnswerEngine(ALL[:2])
    use_case = AnswerPrompts(small_route(), engine, {ALL[2]: "its B matrices are zero"})
    prompts = tuple(Prompt(as_chat(text)) for text in TEXTS)
    answers = use_case(AnswerRequest(prompts, WIDE, AnswerPolicy(Fallback.parse("base"))))
    assert [answer.fallback for answer in answers] == [
        None,
        None,
        f"LoRA adapter {ALL[2]} is refused: its B matrices are zero",
    ]


def test_chats_are_routed_on_the_newest_turn_of_the_user_and_answered_whole() -> None:
    chat = (Message("user", TEXTS[1]), Message("gpt", "done"), Message("human", f"<image>\n{TEXTS[0]}"))
    engine, route = InMemoryAnswerEngine(ALL), small_route()
    for turn, adapter in ((TurnChoice.FIRST, "claim-window"), (TurnChoice.LAST, "calendar")):
        reading = evolve(route, router=evolve(route.router, card=evolve(route.router.card, turn=turn)))
        (answer,) = AnswerPrompts(reading, engine)(AnswerRequest((Prompt(chat),), WIDE))
        assert answer.adapter == adapter
    assert engine.requests[0].chat == chat
    with pytest.raises(DataRejectedError, match="no text to route on"):
        AnswerPrompts(small_route(), engine)(AnswerRequest((Prompt((Message("user", "<image>"),)),)))


def test_images_reach_the_engine() -> None:
    with pytest.raises(UsageError, match="sees no images"):
        AnswerPrompts(small_route(), InMemoryAnswerEngine(ALL))(
            AnswerRequest((Prompt(as_chat("book"), (Path("x.png"),)),))
        )


@pytest.mark.parametrize(
    "options", [{"max_new_tokens": 0}, {"temperature": -1.0}, {"temperature": float("nan")}, {"stop": ("",)}]
)
def test_options_out_of_range(options: Any) -> None:
    with pytest.raises(UsageError):
        GenerationOptions(**options)


def test_beyond_one_group_every_prompt_still_gets_its_own_decision(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("application.answering.answer_prompts.GROUP", 2)
    use_case = AnswerPrompts(small_route(), InMemoryAnswerEngine(ALL), weights={ALL[1]: "abc"})
    prompts = tuple(Prompt(as_chat(text)) for text in (*TEXTS, *TEXTS[:2]))
    found = dict(use_case.stream(AnswerRequest(prompts, WIDE, done=frozenset({1, 2}))))
    assert {index: each.adapter for index, each in found.items() if isinstance(each, Answer)} == {
        0: ALL[0],
        3: ALL[0],
        4: ALL[1],
    }
    assert [each.weights for each in found.values() if isinstance(each, Answer)] == [None, None, "abc"]


def test_of_a_long_prompt_an_error_shows_the_beginning() -> None:
    for text, shown in (("x" * 60, "x" * 60), ("x" * 61, "x" * 60 + "…")):
        with pytest.raises(DataRejectedError, match=f"prompt '{shown}'"):
            ask(text, route=small_route(NOTHING), fallback=Fallback.parse("error"))
