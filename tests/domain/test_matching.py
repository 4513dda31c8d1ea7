"""Generated answers match by their tool calls, or by their words."""

from __future__ import annotations

import pytest

from domain.chats import Message, ToolCall
from domain.matching import answers_match, tool_calls

CALL = '<tool_call>\n{"name": "open", "arguments": {"day": 3, "view": "week"}}\n</tool_call>'
WRITTEN = Message("assistant", CALL)


@pytest.mark.parametrize(
    "text",
    [
        CALL,
        '<tool_call>{"arguments": {"view": "week", "day": 3}, "name": "open"}</tool_call>',
        'Sure.\n<tool_call>{"name": "open", "arguments": {"day": 3, "view": "week"}}',
        '{"name": "open", "parameters": {"day": 3, "view": "week"}}',
        '```json\n[{"function": {"name": "open", "arguments": "{\\"day\\": 3, \\"view\\": \\"week\\"}"}}]\n```',
        '<function=open>{"day": 3, "view": "week"}</function>',
    ],
)
def test_the_same_call_however_it_is_written(text: str) -> None:
    assert answers_match(WRITTEN, text)
    assert answers_match(Message("assistant", "", (ToolCall("open", '{"view": "week", "day": 3}'),)), text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "open",
        CALL.replace("3", "4"),
        CALL.replace("3", '"3"'),
        CALL.replace("open", "close"),
        CALL + CALL,
        CALL.replace("}}", "}"),
        '{"name": "open"}',
    ],
)
def test_another_call_or_none(text: str) -> None:
    assert not answers_match(WRITTEN, text)


def test_words_match_but_for_white_space() -> None:
    said = Message("assistant", "It is done.\n")
    assert answers_match(said, " It is  done. ")
    assert not answers_match(said, "It is done")
    assert tool_calls("5") == tool_calls("It is done.") == tool_calls('["a"]') == []
