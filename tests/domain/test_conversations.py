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
