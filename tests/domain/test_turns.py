"""The one rule for what is routed of a conversation."""

from __future__ import annotations

import pytest

from domain.turns import TurnChoice, chosen_text, has_placeholder, is_short, join_parts, plain_text, strip_media


@pytest.mark.parametrize(
    ("said", "routed"),
    [
        ([], ""),
        (["", ""], ""),
        (["yes"], "yes"),  # there is nothing to widen it with
        (["Open May 3, please", "thanks for that one"], "thanks for that one"),
        (["Open May 3, please", "commit it"], "Open May 3, please\ncommit it"),
        (["Open May 3, please", "commit it now"], "commit it now"),  # three words are enough
        (["one two", "three"], "one two\nthree"),
        (["Open May 3, please", "yes", "go"], "Open May 3, please\nyes\ngo"),
        (["first question here", "Open May 3, please", "yes"], "Open May 3, please\nyes"),
        (["Open May 3, please", "", "yes", ""], "Open May 3, please\nyes"),
        (["打开五月三日", "好的"], "打开五月三日\n好的"),
        (["打开五月三日", "不要这个了"], "不要这个了"),  # written without spaces, and not short
    ],
)
def test_the_newest_turn_is_read_with_earlier_ones_while_it_is_short(said, routed):
    assert chosen_text(said, TurnChoice.LAST) == routed


def test_the_first_and_all_turns_pass_over_turns_without_words():
    assert chosen_text(["", "yes", "now the other"], TurnChoice.FIRST) == "yes"
    assert chosen_text(["", "yes", "now the other"], TurnChoice.ALL) == "yes\nnow the other"


@pytest.mark.parametrize(
    ("text", "plain"),
    [
        (" <image>\nclick <b> <video> now ", "click <b> now"),
        ("<system-reminder>be\nbrief</system-reminder>Pay it<system-reminder>x</system-reminder>", "Pay it"),
        ("Pay it <environment_details>cwd</environment_details>", "Pay it"),
        ("<tool_response>{}</tool_response>", ""),
        ("what does <system-reminder> mean", "what does <system-reminder> mean"),  # it is not closed
        (" \u200b\u200d ", ""),  # shows nothing
        (" été ", "été"),
    ],
)
def test_placeholders_and_blocks_that_programs_insert_are_not_what_a_person_said(text, plain):
    assert plain_text(text) == plain


@pytest.mark.parametrize(
    ("content", "text"),
    [
        ("a", "a"),
        (None, None),
        ([{"type": "text", "text": "a"}, "b", {"text": "c"}, {"type": "input_text", "text": "d"}], "a\nb\nc\nd"),
        ([{"type": "image_url", "image_url": {}}, {"type": "tool_result", "content": "x", "text": "y"}], ""),
        ([{"type": "text", "text": None}], ""),
        ([{"type": "text", "text": 5}], None),
        ([5], None),
        (5, None),
        ({"text": "a"}, None),
    ],
)
def test_parts_are_flattened_to_their_text(content, text):
    assert join_parts(content) == text


def test_a_turn_of_fewer_than_three_words_is_short():
    assert [is_short(text) for text in ("", "commit it", "commit it now", "好的", "打开它")] == [
        True, True, False, True, False
    ]  # fmt: skip


def test_placeholders_are_found_and_leave_one_space():
    assert [has_placeholder(text) for text in ("a <image> b", "<video>", "an <img>", "")] == [
        True,
        True,
        False,
        False,
    ]
    assert strip_media(" click  <audio> here <b> ") == "click here <b>"
    assert strip_media(" no mark ") == "no mark"


@pytest.mark.parametrize(
    "filler", ["<system-reminder>", "<tool_result></tool_result>", "\t", " ", "<image>", "<image> ", "<"]
)
def test_huge_texts_are_read_in_one_pass(filler):
    count = 500_000 // len(filler)  # with a pass for each of them this would take many minutes
    said = plain_text(f"first <b>{filler * count}.last")
    assert said.startswith("first <b>")
    assert said.endswith(".last")
    if filler[0] == "<" and len(filler) > 20:
        assert said == f"first <b>{' ' * count}.last"


def test_blocks_are_closed_by_their_own_tag_and_the_nearest():
    reminder, result = "<system_reminder>", "<tool_result>"
    assert plain_text(f"a{reminder}{result}b</tool_result>c</system_reminder>d") == "a d"
    assert plain_text(f"a{result}b{result}c</tool_result>d</tool_result>e") == "a d</tool_result>e"
    assert plain_text(f"a{reminder}b{result}c</tool_result>d") == f"a{reminder}b d"
