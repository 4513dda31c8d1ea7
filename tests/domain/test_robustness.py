from __future__ import annotations

import random
from collections import Counter

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from domain.change_wordings import WORDINGS
from domain.robustness import CHANGES, crowded, ended, mistyped, recased, worded

PROMPT = "Click December 3 in the calendar, and then save the appointment"
BY_NAME = {change.name: change for change in CHANGES}


@given(st.text(), st.sampled_from(CHANGES), st.integers())
@example("a.", BY_NAME["typos"], 0)
def test_the_same_text_and_seed_give_the_same_change_and_letters_never_vanish(text, change, seed):
    changed = change(text, seed)
    assert changed == change(text, seed)
    assert any(map(str.isalnum, changed)) or not any(map(str.isalnum, text))


@pytest.mark.parametrize("name", BY_NAME)
def test_a_prompt_is_changed_in_several_ways_and_stays_readable(name):
    changed = {BY_NAME[name](PROMPT, seed) for seed in range(60)}
    assert PROMPT not in changed
    assert len(changed) >= (3 if name == "case" else 8)
    for text in changed:
        kept = Counter(PROMPT.lower()) & Counter(text.lower())
        assert kept.total() >= 0.85 * len(PROMPT)


@pytest.mark.parametrize("name", sorted(WORDINGS))
def test_every_wording_holds_the_prompt_once_and_all_are_different(name):
    description, wordings = WORDINGS[name]
    assert description
    assert len(set(wordings)) == len(wordings) >= 8
    for wording in wordings:
        assert worded([wording])("THE PROMPT", random.Random(0)).count("THE PROMPT") == 1


def test_names_are_unique():
    assert len(BY_NAME) == len(CHANGES) == 15


def test_a_wording_takes_the_prompt_as_it_is_ended_or_quoted():
    rng = random.Random(0)
    assert worded(["a {prompt} b"])("{ended} \\1", rng) == "a {ended} \\1 b"
    assert worded(["{ended} Bye."])("go \n", rng) == "go. Bye."
    assert worded(["{quoted}"])("one\ntwo", rng) == "> one\n> two"
    assert [ended(text) for text in ("go", "go?", "", "“go”")] == ["go.", "go?", "", "“go”"]


def test_one_letter_in_twenty_is_mistyped_and_one_at_least():
    long = "abcdefghij" * 40
    assert 380 <= len(mistyped(long, random.Random(1))) <= 420
    assert sum(a != b for a, b in zip("abcd", mistyped("abcd", random.Random(3)), strict=False)) >= 1
    assert mistyped("12 34", random.Random(0)) == "12 34"
    assert mistyped("a", random.Random(0)) in ("a", "aa")


def test_a_quarter_of_the_spaces_is_lost_but_no_line_break():
    text = "one two three four five six seven eight nine\nten"
    changed = crowded(text, random.Random(0))
    assert changed.count(" ") == 6
    assert changed.replace(" ", "") == text.replace(" ", "")
    assert crowded("日本語のテキスト", random.Random(0)) == "日本語のテキスト"


def test_letters_change_their_case_or_marks_go():
    forms = {recased("Ab, c", random.Random(seed)) for seed in range(40)}
    assert forms == {"AB, C", "ab, c", "Ab, C", "Ab c"}
    assert recased("١٢٣", random.Random(0)) == "١٢٣"
