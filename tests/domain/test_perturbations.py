from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.perturbations import PERTURBATIONS, other_case, truncated, with_appended_sentence, with_typos

PROMPT = "Click December 3 in the calendar and then save the appointment"


@given(st.text(), st.sampled_from(sorted(PERTURBATIONS)))
def test_the_same_text_always_gets_the_same_change_and_words_never_vanish(text, name):
    once, again = PERTURBATIONS[name](text), PERTURBATIONS[name](text)
    assert once == again
    if len(text.split()) > 1 and name != "typos":
        assert once.strip()


@pytest.mark.parametrize("name", sorted(PERTURBATIONS))
def test_an_ordinary_prompt_is_changed_but_recognisable(name):
    changed = PERTURBATIONS[name](PROMPT)
    assert changed != PROMPT
    assert len(set(changed.lower().split()) & set(PROMPT.lower().split())) >= 5


def test_one_typo_for_each_dozen_letters():
    letters = sum(letter.isalpha() for letter in PROMPT)
    assert abs(len(with_typos(PROMPT)) - len(PROMPT)) <= letters // 12
    assert with_typos("12 34") == "12 34"
    assert with_typos("ab") != "ab"


def test_case_truncation_and_sentence():
    assert other_case("Ab c") == "AB C"
    assert other_case("AB C") == "ab c"
    assert truncated("one two three four five six seven eight") == "one two three four five six"
    assert truncated("one") == "one"
    assert with_appended_sentence("Do it").startswith("Do it. Thank")
    assert with_appended_sentence("Do it?").startswith("Do it? Thank")
