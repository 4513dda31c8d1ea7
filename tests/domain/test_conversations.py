"""Rows of any shape give a text or a reason, never an exception; more cases in adapters/test_source_faults.py."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from domain.chats import parse_turns, routing_text
from domain.conversations import Rejection, RowFormat, extract_prompt, row_id
from domain.errors import DataRejectedError
from domain.turns import TurnChoice

KEYS = st.sampled_from(["conversations", "messages", "from", "role", "value", "content", "type", "text", "id"])
LEAVES = (
    st.none() | st.booleans() | st.integers() | st.sampled_from(["human", "gpt", "text", "", " ", "<image>", "x"])
)
JSON = st.recursive(
    LEAVES, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(KEYS, inner, max_size=4), max_leaves=25
)


@given(row=JSON, turn=st.sampled_from(TurnChoice), fmt=st.sampled_from([RowFormat(), RowFormat(layout="columns")]))
@settings(max_examples=400, deadline=None)
def test_any_row_gives_a_clean_text_or_a_reason(row, turn, fmt):
    found = extract_prompt(row, fmt, turn)
    if isinstance(found, Rejection):
        assert found.detail
    else:
        assert found == found.strip() != ""
        assert "<image>" not in found


@pytest.mark.parametrize(
    ("row", "expected"),
    [({"id": "a"}, "a"), ({"id": 7}, "7"), ({"id": True}, None), ({"id": ""}, None), ({"id": 1.5}, None), ([], None)],
)
def test_ids_are_texts_or_integers(row, expected):
    assert row_id(row) == expected


def test_the_quick_way_and_the_thorough_way_agree():
    quick = {"conversations": [{"from": "system", "value": "s"}, {"from": "human", "value": "a"}]}
    thorough = {"conversations": [{"role": "system", "content": "s"}, {"from": "Human", "content": "a"}]}
    assert extract_prompt(quick) == extract_prompt(thorough) == "a"


@given(
    turns=st.lists(
        st.fixed_dictionaries(
            {},
            optional={
                "from": st.sampled_from([None, "human", "gpt", "tool_call", "ipython", "x"]),
                "role": st.sampled_from(["user", "assistant", None]),
                "value": LEAVES,
                "content": LEAVES | st.lists(LEAVES | st.fixed_dictionaries({"type": LEAVES, "text": LEAVES})),
            },
        ),
        max_size=4,
    ),
    turn=st.sampled_from(TurnChoice),
)
@settings(max_examples=300, deadline=None)
def test_a_row_of_source_data_and_a_prompt_of_the_same_turns_are_read_alike(turns, turn):
    found = extract_prompt({"conversations": turns}, turn=turn)
    try:
        chat = parse_turns(turns)
        said = routing_text(chat, turn)
    except DataRejectedError:
        said = None
    if isinstance(found, str):
        assert said == found or any(type(each.get("value", each.get("content"))) is not str for each in turns)
    else:
        assert said is None


def test_null_is_absent():
    row = {"conversations": None, "messages": [{"from": None, "role": "user", "value": None, "content": "a"}]}
    assert extract_prompt(row) == "a"
    assert extract_prompt({"conversations": [{"from": "human", "value": None, "content": "b"}]}) == "b"
    columns = RowFormat(layout="columns", columns=("instruction", "input"))
    assert extract_prompt({"instruction": "c", "input": None}, columns) == "c"
    assert extract_prompt({"instruction": None, "input": "d"}, columns).reason == "no-conversation"


MARKED = RowFormat(layout="marked", columns=("text",))


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        ({"text": "<|im_start|>user\nbook a room<|im_end|>\n<|im_start|>assistant\nyes<|im_end|>"}, "book a room"),
        ({"text": "no marks"}, "no-human-turn"),
        ({"text": 3}, "no-human-turn"),
        ({"text": None}, "no-conversation"),
        ({}, "no-conversation"),
    ],
)
def test_a_rendered_text_is_read_by_its_marks_or_rejected(row, expected):
    found = extract_prompt(row, MARKED)
    assert expected == (found.reason if isinstance(found, Rejection) else found)


def test_a_row_is_read_by_the_first_format_whose_columns_it_has():
    columns = RowFormat(layout="columns", columns=("question",))
    either = RowFormat(otherwise=(columns, MARKED))
    chat = {"messages": [{"role": "user", "content": "a"}], "question": "b"}
    assert (extract_prompt(chat, either), either.of(chat)) == ("a", either)
    assert (extract_prompt({"question": "b"}, either), either.of({"question": "b"})) == ("b", columns)
    marked = {"text": "<|im_start|>user\nc<|im_end|>"}
    assert (extract_prompt(marked, either), either.of(marked)) == ("c", MARKED)
    spoiled = extract_prompt({"messages": [], "question": "b"}, either)
    assert isinstance(spoiled, Rejection)  # it has the columns: what is wrong with them is said
    assert spoiled.reason == "empty-conversation"
    nothing = extract_prompt({"other": "d"}, either)
    assert isinstance(nothing, Rejection)
    assert (nothing.reason, nothing.detail) == ("no-conversation", "no 'conversations' or 'messages'")
    assert either.of({"other": "d"}) == either


def test_an_unknown_speaker_is_named_in_whatever_form_the_turn_is():
    for turns in ([{"from": "x" * 60, "value": "a"}], [{"role": "x" * 60, "content": "a"}]):
        found = extract_prompt({"messages": [{"from": "human", "value": "hi"}, *turns]})
        assert isinstance(found, Rejection)
        assert (found.reason, found.detail) == ("unknown-role", f"turn 2 is from {'x' * 40!r}")
