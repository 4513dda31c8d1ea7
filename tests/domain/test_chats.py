"""Conversations as ShareGPT and OpenAI-style rows write them."""

from __future__ import annotations

from typing import Any

import pytest

from domain.chats import Message, ToolCall, as_chat, as_turn, parse_turns, routing_text, with_calls, with_system
from domain.errors import DataRejectedError
from domain.turns import TurnChoice, strip_media


def test_both_styles_give_the_same_chat() -> None:
    share = [
        {"from": "system", "value": "s"},
        {"from": " Human ", "value": "<image>\nhi"},
        {"from": "gpt", "value": "yes"},
    ]
    openai = [
        {"role": "developer", "content": "s"},
        {"role": "user", "content": [{"type": "image_url"}, {"type": "text", "text": "<image>\nhi"}]},
        {"role": "assistant", "content": "yes"},
    ]
    assert parse_turns(share) == parse_turns(openai)
    assert routing_text(parse_turns(share)) == "hi"


@pytest.mark.parametrize(
    ("turns", "message"),
    [
        (None, "not a non-empty list"),
        ([], "not a non-empty list"),
        (["hi"], "turn 1 is a str, not an object"),
        ([{"value": "hi"}], "turn 1 names no speaker"),
        ([{"from": "human"}], "turn 1 has no text"),
        ([{"from": "human", "value": 3}], "turn 1 has no text"),
        ([{"from": 3, "value": "hi"}], "turn 1 names no speaker"),
        (
            [{"from": "human", "value": "hi"}, {"role": "assistant", "tool_calls": [{"id": "1"}]}],
            "turn 2 has a tool call",
        ),
        ([{"from": "martian", "value": "hi"}], "unknown speaker 'martian'"),
    ],
)
def test_what_is_no_chat(turns: Any, message: str) -> None:
    with pytest.raises(DataRejectedError, match=message):
        parse_turns(turns)


def test_a_system_turn_leads_only_chats_without_one() -> None:
    plain = as_chat("hi")
    led = with_system(plain, "s")
    assert led == (Message("system", "s"), Message("user", "hi"))
    assert with_system(led, "other") == led
    assert with_system(plain, None) == plain


def test_the_newest_user_turn_is_routed_on() -> None:
    chat = (Message("user", "one"), Message("assistant", "two"), Message("user", "open May 3"), Message("gpt", "x"))
    assert routing_text(chat) == "open May 3"
    assert routing_text(chat, TurnChoice.FIRST) == "one"
    assert routing_text((*chat, Message("user", "thanks"))) == "open May 3\nthanks"
    for chat in ((), (Message("assistant", "x"),), as_chat(" <video> ")):
        with pytest.raises(DataRejectedError, match="no text to route on"):
            routing_text(chat)


def test_media_placeholders_go() -> None:
    assert strip_media(" <image>\nclick <b> <video> now ") == "click <b> now"


CALL = ToolCall("claim_form", '{"field": "deductible"}')


@pytest.mark.parametrize(
    ("turn", "expected"),
    [
        ({"from": "function_call", "value": '{"name": "claim_form", "arguments": {"field": "deductible"}}'}, (CALL,)),
        (
            {
                "role": "assistant",
                "content": None,
                "tool_calls": [
                    {
                        "id": "1",
                        "type": "function",
                        "function": {"name": "claim_form", "arguments": '{"field": "deductible"}'},
                    }
                ],
            },
            (ToolCall(CALL.name, CALL.arguments, "1"),),
        ),
        ({"role": "assistant", "function_call": {"name": "claim_form", "arguments": CALL.arguments}}, (CALL,)),
        ({"from": "tool_call", "value": '[{"name": "a"}, {"name": "b"}]'}, (ToolCall("a"), ToolCall("b"))),
        ({"from": "gpt", "value": None, "role": None}, ()),
    ],
)
def test_calls_of_tools_are_kept_and_need_no_text(turn, expected) -> None:
    chat = parse_turns([{"role": "user", "content": "pay it now"}, turn, {"from": "observation", "value": None}])
    assert (chat[1].role, chat[1].content, chat[1].tool_calls) == ("assistant", "", expected)
    assert chat[2] == Message("tool", "")
    assert routing_text(chat) == "pay it now"


def test_a_call_in_another_notation_stays_text() -> None:
    chat = parse_turns([{"from": "human", "value": "pay it"}, {"from": "function_call", "value": "pay(1)"}])
    assert chat[1] == Message("assistant", "pay(1)")


def test_turns_are_a_chat_already_and_bytes_that_are_not_text_are_refused() -> None:
    turns = [Message("user", "hi"), Message("assistant", "yes")]
    assert as_chat(turns) == tuple(turns)
    with pytest.raises(DataRejectedError, match="not UTF-8"):
        routing_text(as_chat("caf\udce9"))
    assert routing_text(as_chat("café")) == "café"


def test_calls_that_are_not_a_list_are_refused_and_nameless_ones_stay_text() -> None:
    asked = {"role": "user", "content": "pay it"}
    for calls in ({"name": "a"}, 7):
        with pytest.raises(DataRejectedError, match="turn 2 has a tool call without a name"):
            parse_turns([asked, {"role": "assistant", "tool_calls": calls}])
    said = '[{"name": "a"}, {"arguments": {}}]'
    assert parse_turns([asked, {"from": "function_call", "value": said}])[1] == Message("assistant", said)


def test_turns_are_written_as_openai_does_and_read_back() -> None:
    paid = Message("assistant", "", (ToolCall("pay", '{"to": "Zoë"}', "1"), ToolCall("look")))
    chat = (Message("user", "pay it"), paid, Message("tool", "42", tool_call_id="1", name="pay"))
    written = [as_turn(message) for message in chat]
    assert [call.get("id") for call in written[1]["tool_calls"]] == ["1", None]
    assert "id" not in written[1]["tool_calls"][1]
    assert parse_turns(written) == chat
    assert '{"name": "pay", "arguments": {"to": "Zoë"}}' in with_calls(paid)
    called = {"role": "assistant", "tool_calls": [{"id": 7, "function": {"name": "pay", "arguments": {"to": "Zoë"}}}]}
    assert parse_turns([called])[0].tool_calls == (ToolCall("pay", '{"to": "Zoë"}', None),)
    assert parse_turns([{"role": "user", "name": "Ann", "content": "hi"}])[0].name is None
    assert parse_turns([{"role": "tool", "name": 7, "content": "hi"}])[0].name is None


@pytest.mark.parametrize("function", ["pay", 7, {"arguments": "{}"}])
def test_a_call_that_is_not_an_object_with_a_name_is_refused(function: Any) -> None:
    with pytest.raises(DataRejectedError, match="a tool call without a name"):
        parse_turns([{"role": "assistant", "tool_calls": [{"function": function}]}])


@pytest.mark.parametrize("code", [0xD800, 0xDFFF])
def test_every_half_of_a_letter_is_refused(code: int) -> None:
    with pytest.raises(DataRejectedError, match="not UTF-8"):
        routing_text(as_chat(f"pay {chr(code)}"))
