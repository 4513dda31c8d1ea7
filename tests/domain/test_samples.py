"""When two texts count as the same, and how the base model reads a prompt."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.samples import normalise_text, routing_view


@given(st.text())
def test_normalising_twice_changes_nothing(text):
    once = normalise_text(text)
    assert normalise_text(once) == once


@pytest.mark.parametrize(
    ("one", "other"),
    [("Click  the\tDATE\n", "click the date"), ("ﬁle", "FILE"), ("Straße", "STRASSE"), ("①", "1")],
)
def test_texts_that_a_person_would_call_the_same(one, other):
    assert normalise_text(one) == normalise_text(other)


@pytest.mark.parametrize(
    ("text", "read"),
    [
        ("CLICK TODAY, PLEASE!", "click today, please!"),
        ("Click Today", "Click Today"),
        ("file ICD-10 codes", "file ICD-10 codes"),
        ("ICD-10", "icd-10"),
        ("12/24", "12/24"),
        ("", ""),
    ],
)
def test_only_prompts_in_capitals_throughout_are_read_in_small_letters(text, read):
    assert routing_view(text) == read


@given(st.text())
def test_reading_twice_changes_nothing(text):
    assert routing_view(routing_view(text)) == routing_view(text)
