"""Conversations as ShareGPT and OpenAI-style rows write them."""

from __future__ import annotations

from typing import Any

import pytest

from domain.chats import Message, as_chat, parse_turns, routing_text, strip_media, with_system
from domain.errors import DataRejectedError


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
        (["hi"], "turn 1 has no speaker"),
        ([{"value": "hi"}], "turn 1 has no speaker"),
        ([{"from": "human"}], "turn 1 has no speaker or no text"),
        ([{"from": "human", "value": 3}], "turn 1 has no speaker or no text"),
        ([{"from": 3, "value": "hi"}], "turn 1 has no speaker"),
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
    chat = (Message("user", "one"), Message("assistant", "two"), Message("user", "three"), Message("assistant", "x"))
    assert routing_text(chat) == "three"
    for chat in ((), (Message("assistant", "x"),), as_chat(" <video> ")):
        with pytest.raises(DataRejectedError, match="no text to route on"):
            routing_text(chat)


def test_media_placeholders_go() -> None:
    assert strip_media(" <image>\nclick <b> <video> now ") == "click <b> now"
