"""Scripted conversations: who answers each turn, and why."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from application.serving.choose_answerer import Choice, ChooseAnswerer, ChooseRequest
from application.serving.sessions import Sessions
from application.serving.wishes import parse_wishes
from domain.chats import Chat, Message
from domain.errors import DataRejectedError, UsageError
from domain.routing import OtherLimits
from domain.turns import TurnChoice
from tests.serving_world import LABELS, WordRouter


def chat(*turns: str) -> Chat:
    """Turns of the user and the assistant in alternation; "system:" and "tool:" begin the others."""
    made, user = [], True
    for turn in turns:
        role, colon, content = turn.partition(":")
        if colon and role in ("system", "tool", "assistant", "user"):
            made.append(Message(role, content))
            user = role != "user"
        else:
            made.append(Message("user" if user else "assistant", turn))
            user = not user
    return tuple(made)


def choose(chooser: ChooseAnswerer, *turns: str, wishes: Any = None, **request: Any) -> Choice:
    return asyncio.run(chooser(ChooseRequest(chat(*turns), parse_wishes(wishes), **request)))


@pytest.fixture
def chooser() -> ChooseAnswerer:
    return ChooseAnswerer(WordRouter(), LABELS.names, Sessions())


def told(choice: Choice) -> tuple[str | None, str, str | None]:
    return choice.adapter, str(choice.reason), choice.session and str(choice.session)


def test_a_follow_up_stays_and_a_change_of_subject_moves(chooser: ChooseAnswerer) -> None:
    first = "write a function that sorts"
    assert told(choose(chooser, first)) == ("code", "confident", "initialize")
    assert told(choose(chooser, first, "done", "commit it")) == ("code", "confident", "retain")
    assert told(choose(chooser, first, "done", "now tell me about the weather there")) == ("code", "sticky", "retain")
    moved = choose(chooser, first, "done", "please file a claim for my car")
    assert told(moved) == ("claims", "confident", "switch")
    assert told(choose(chooser, first, "done", "please file a claim", "ok", "and then what")) == (
        *("claims", "sticky", "retain"),
    )


def test_a_trivial_opener_pins_nothing(chooser: ChooseAnswerer) -> None:
    assert told(choose(chooser, "hello there you")) == (None, "out_of_scope", "initialize")
    assert told(choose(chooser, "hello there you", "hi", "move my meeting to noon"))[:2] == ("calendar", "confident")


def test_a_tool_loop_keeps_its_adapter_and_asks_no_router(chooser: ChooseAnswerer) -> None:
    choose(chooser, "move my meeting to noon")
    asked = len(chooser.router.asked)
    found = choose(chooser, "move my meeting to noon", "assistant:calling", "tool:claim function claim")
    assert told(found) == ("calendar", "sticky", "retain")
    assert len(chooser.router.asked) == asked
    lost = choose(ChooseAnswerer(WordRouter(), LABELS.names, Sessions()), "move my meeting", "x", "tool:claim")
    assert told(lost)[:2] == ("calendar", "confident")


def test_a_turn_in_a_script_without_spaces_is_not_short(chooser: ChooseAnswerer) -> None:
    first = "write a function that sorts"
    choose(chooser, first)
    assert choose(chooser, first, "done", "请claim我的汽车保险赔偿").adapter == "claims"


@pytest.mark.parametrize(
    ("turn", "text"),
    [
        (TurnChoice.FIRST, "write a function"),
        (TurnChoice.LAST, "please file a claim now"),
        (TurnChoice.ALL, "write a function\nplease file a claim now"),
    ],
)
def test_a_conversation_is_read_as_the_router_was_trained_to(turn: TurnChoice, text: str) -> None:
    chooser = ChooseAnswerer(WordRouter(turn=turn), LABELS.names, Sessions())
    assert choose(chooser, "write a function", "done", "please file a claim now").text == text
    alone = choose(chooser, "write a function", "done", "please file a claim now", wishes={"strategy": "none"})
    assert alone.text == text


def test_reminders_that_programs_put_in_are_not_read(chooser: ChooseAnswerer) -> None:
    text = "move my meeting <system-reminder>claim function</system-reminder>"
    assert choose(chooser, text).text == "move my meeting"


def test_strategies(chooser: ChooseAnswerer) -> None:
    turns = ("write a function", "ok", "please file a claim now")
    choose(chooser, turns[0])
    assert told(choose(chooser, *turns, wishes={"strategy": "sticky"})) == ("code", "sticky", "retain")
    alone = choose(chooser, *turns, wishes={"strategy": "none"})
    assert told(alone) == ("claims", "confident", None)
    assert alone.source is None


def test_conversations_that_begin_alike_are_told_apart_by_their_names(chooser: ChooseAnswerer) -> None:
    choose(chooser, "write a function", names={"x-session-id": "mine"})
    assert told(choose(chooser, "carry on with that", names={"x-session-id": "mine"})) == ("code", "sticky", "retain")
    assert told(choose(chooser, "carry on with that", names={"x-session-id": "other"}))[0] is None
    assert choose(chooser, "x", wishes={"session_id": "s"}, names={"x-session-id": "mine"}).source == "body"
    assert told(choose(chooser, "carry on with that"))[2] == "initialize"


def test_the_fallback_answers_or_nobody_does(chooser: ChooseAnswerer) -> None:
    strange = "tell me of the weather"
    found = choose(chooser, strange)
    assert (found.adapter, found.fallback, found.nobody) == (None, "base", False)
    found = choose(chooser, strange, wishes={"fallback": "claims"})
    assert (found.adapter, found.fallback, str(found.reason)) == ("claims", "claims", "out_of_scope")
    assert choose(chooser, strange, wishes={"fallback": "error"}).nobody
    assert choose(chooser, strange, wishes={"fallback": "absent"}).nobody


def test_an_adapter_that_is_not_there_is_never_replaced_by_the_second_best() -> None:
    chooser = ChooseAnswerer(WordRouter(), ("calendar", "code"), Sessions())
    found = choose(chooser, "please file a claim now")
    assert (found.adapter, str(found.reason), found.fallback) == (None, "disabled", "base")
    assert choose(chooser, "please file a claim now", wishes={"fallback": "error"}).nobody


def test_limits_and_masks_of_the_request(chooser: ChooseAnswerer) -> None:
    assert choose(chooser, "hello there you", wishes={"no_abstain": True}).adapter == "calendar"
    assert choose(chooser, "a claim for me", wishes={"min_confidence": 0.99}).adapter is None
    assert choose(chooser, "a claim for me", wishes={"max_out_of_scope": -1.0}).adapter is None
    assert choose(chooser, "a claim for me", wishes={"allowed": ["code"]}).adapter == "code"
    assert str(choose(chooser, "a claim for me", wishes={"disabled": list(LABELS.names)}).reason) == "disabled"
    with pytest.raises(UsageError, match="unknown adapter 'nope'"):
        choose(chooser, "a claim for me", wishes={"allowed": ["nope"]})


def test_limits_of_the_server_stand_in_for_the_routers_and_a_request_for_both() -> None:
    def strict(**limits: Any) -> ChooseAnswerer:
        return ChooseAnswerer(WordRouter(), LABELS.names, Sessions(), limits=OtherLimits(**limits))

    assert choose(strict(min_confidence=0.99), "a claim for me").adapter is None
    assert choose(strict(min_confidence=0.99), "a claim for me", wishes={"min_confidence": 0.5}).adapter == "claims"
    assert choose(strict(no_abstain=True), "hello there you").adapter == "calendar"


def test_a_router_that_fails_leaves_the_turn_to_the_fallback_and_a_conversation_where_it_is() -> None:
    router = WordRouter()
    chooser = ChooseAnswerer(router, LABELS.names, Sessions())
    choose(chooser, "write a function for me")
    router.broken = True
    found = choose(chooser, "file a claim for me")
    assert (found.adapter, str(found.reason), found.fallback) == (None, "router_error", "base")
    assert "the model is gone" in (found.error or "")
    assert told(choose(chooser, "write a function for me", "ok", "file a claim"))[:2] == ("code", "sticky")


def test_a_named_model_needs_no_router(chooser: ChooseAnswerer) -> None:
    found = choose(chooser, "hello", named="code", by_name=True)
    assert told(found) == ("code", "named", None)
    assert chooser.router.asked == []
    with pytest.raises(DataRejectedError, match="no text to route on"):
        choose(chooser, "system:be kind")


def test_wishes_are_refused_by_name() -> None:
    for value, message in (
        ([], "routing: is not an object"),
        ({"sessionid": "x"}, "unknown key 'sessionid'.*session_id"),
        ({"strategy": "maybe"}, "routing.strategy: must be one of: adaptive, sticky, none"),
        ({"min_confidence": 2}, "routing.min_confidence: 2 is not between 0 and 1"),
        ({"min_confidence": True}, "routing.min_confidence: is not a number"),
        ({"allowed": "code"}, "routing.allowed: is not a list"),
        ({"no_abstain": 1}, "routing.no_abstain: is neither"),
        ({"fallback": "a b"}, "routing.fallback: adapter name 'a b' is not allowed"),
        ({"session_id": "x" * 513}, "routing.session_id: is not a text"),
    ):
        with pytest.raises(UsageError, match=message):
            parse_wishes(value)
    assert parse_wishes({"session_id": None}) == parse_wishes(None)


def test_memory_of_conversations_is_bounded_in_number_and_time() -> None:
    now = [0.0]
    sessions = Sessions(limit=3, seconds=10, clock=lambda: now[0])
    talk = chat("a", "b", "c")
    keys = [sessions.key(str(number), {}, talk) for number in range(5)]
    for key in keys:
        sessions.remember(key, "code")
    assert len(sessions) == 3
    assert [sessions.held(key, talk) for key in keys] == [None, None, "code", "code", "code"]
    now[0] = 11.0
    assert sessions.held(keys[4], talk) is None
    sessions.remember(keys[0], "code")
    assert len(sessions) == 1
    named = sessions.key("conversation-of-somebody", {}, talk)
    assert b"somebody" not in named.key
