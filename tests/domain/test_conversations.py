"""Rows of any shape give a text or a reason, never an exception; more cases in adapters/test_source_faults.py."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from domain.conversations import Rejection, RowFormat, TurnChoice, extract_prompt, row_id

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
