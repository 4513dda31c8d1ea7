from __future__ import annotations

import re
from difflib import SequenceMatcher

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.change_wordings import WORDINGS
from domain.copies import _FRAMES, LETTERS_PER_ERROR, LONGEST_PHRASE, accompanied, mistyped

TEXT = "which day of the week is the second of march"
PHRASES = ("Hello!", "thanks a lot", "one two three four five six seven", "12:30")


@given(st.text(max_size=120), st.text(max_size=5))
def test_the_same_arguments_give_the_same_copies(text, seed):
    assert mistyped(text, seed) == mistyped(text, seed)
    assert accompanied(text, PHRASES, seed) == accompanied(text, PHRASES, seed)
    assert accompanied(text, (), seed)


def test_seeds_differ_and_most_copies_are_changed():
    wrong = {mistyped(TEXT, str(seed)) for seed in range(30)}
    assert len(wrong) > 20
    assert sum(mistyped(TEXT, str(seed)) != TEXT for seed in range(30)) >= 25
    assert all(accompanied(TEXT, PHRASES, str(seed)) != TEXT for seed in range(30))


def test_typing_errors_are_few():
    for seed in range(30):
        wrong = mistyped(TEXT, str(seed))
        assert abs(len(wrong) - len(TEXT)) <= len(TEXT) // LETTERS_PER_ERROR + 1
        assert SequenceMatcher(None, wrong, TEXT).ratio() > 0.85
    assert mistyped("ab", "1") == "ab"


def test_every_kind_of_typing_error_is_made():
    text, kinds = "open it now", set()
    for seed in range(300):
        wrong = mistyped(text, str(seed))
        if len(wrong) == len(text):
            kinds.add("the same" if wrong == text else "swapped" if sorted(wrong) == sorted(text) else "replaced")
        elif len(wrong) > len(text):
            kinds.add("doubled")
        else:
            kinds.add("space" if wrong.count(" ") < 2 and wrong.replace(" ", "") == "openitnow" else "left out")
    assert kinds == {"the same", "swapped", "replaced", "doubled", "space", "left out"}
    assert mistyped("abc", "1") != "abc" or mistyped("abc", "2") != "abc"
    long = "x" * 10 * LETTERS_PER_ERROR
    assert max(abs(len(mistyped(long, str(seed))) - len(long)) for seed in range(50)) > 2  # more in a longer text


def test_company_stands_before_after_or_on_both_sides_and_a_request_may_lose_its_capital():
    made = [accompanied("Open it?", ["thanks a lot!"], str(seed)) for seed in range(300)]
    assert {one[:6] for one in made} >= {"Open i", "open i", "thanks"}
    before, after = (
        {one for one in made if one.lower().startswith("thanks a lot") and one.rstrip("?").endswith("pen it")},
        {one for one in made if one.lower().startswith("open it") and one.endswith("thanks a lot")},
    )
    both = {one for one in made if one.startswith("thanks a lot") and one.endswith("thanks a lot")}
    assert before
    assert after
    assert both
    assert all("it?" not in one for one in after | both)  # no sentence ends in the middle


def test_company_leaves_the_request_whole_and_takes_short_phrases_with_letters_only():
    made = [accompanied(TEXT, PHRASES, str(seed)) for seed in range(200)]
    assert all(TEXT in one for one in made)
    assert any("Hello" in one for one in made)
    assert any("please" in one for one in made)
    assert not any("seven" in one or "12:30" in one for one in made)
    assert max(len(one.split()) for one in made) <= len(TEXT.split()) + 2 * LONGEST_PHRASE


def words(text: str) -> list[str]:
    return re.findall(r"\w+", text.lower().replace("{prompt}", "\n").replace("{ended}", "\n").replace("{}", "\n"))


def background() -> list[str]:
    from adapters.companions import background_phrases

    return list(background_phrases())


@pytest.mark.parametrize("source", ["frames", "background"])
def test_training_shares_no_wording_with_what_evaluate_measures_by(source):
    """Otherwise the figures of ``evaluate`` would flatter: no three words in a row may stand in both."""

    def runs(text: str) -> set[tuple[str, ...]]:
        found = words(text)
        return {tuple(found[at : at + 3]) for at in range(len(found) - 2)}

    measured = {run: wording for _, wordings in WORDINGS.values() for wording in wordings for run in runs(wording)}
    used = _FRAMES if source == "frames" else background()
    shared = {text: " ".join(run) for text in used for run in runs(text) if run in measured}
    assert not shared


def test_copies_are_the_same_with_every_version():
    """What a router is trained on must not change unnoticed: the same data and seed give the same router."""
    wrong = [mistyped(TEXT, str(seed)) for seed in (1, 2, 4, 6, 8)]
    assert wrong == [
        "which day of hte week is the second f march",
        "which day of the week iss the second ofmarch",
        "which day of the week is thwsecond of march",
        "thich day of the week is the seond of march",
        "which day of the week is the seckdd of march",
    ]
    short = ["thanks a lot!", "hello", "one two three four five six"]
    assert [accompanied("Open it?", short, str(seed)) for seed in (0, 1, 2, 3, 4, 8)] == [
        "thanks a lot - open it?",
        "one two three four five six, Open it?",
        "could you please Open it?",
        "hello Open it?",
        "hello, Open it, one two three four five six",
        "open it hello",
    ]
