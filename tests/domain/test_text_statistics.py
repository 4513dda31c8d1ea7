"""Percentiles and telling words."""

import pytest

from domain.errors import UsageError
from domain.text_statistics import percentile, telling_words, words


@pytest.mark.parametrize(("percent", "expected"), [(0, 1), (5, 1), (50, 5), (51, 6), (95, 10), (100, 10)])
def test_percentiles_are_nearest_rank(percent, expected):
    assert percentile([10, 9, 8, 7, 6, 5, 4, 3, 2, 1], percent) == expected


@pytest.mark.parametrize(("values", "percent"), [([], 50), ([1], 101), ([1], -1)])
def test_percentiles_of_nothing_are_refused(values, percent):
    with pytest.raises(UsageError):
        percentile(values, percent)


def test_words_are_normalised_and_keep_inner_marks():
    assert words("Don't RE-DO  the ﬁle_name 2024!") == ["don't", "re-do", "the", "file", "name", "2024"]


def test_telling_words_are_those_of_one_adapter_only():
    texts = {
        "calendar": [f"click day {number} please" for number in range(20)],
        "claim": [f"edit field {number} please" for number in range(20)],
    }
    found = telling_words(texts, 3)
    assert {one.word for one in found["calendar"][:2]} == {"click", "day"}
    assert {one.word for one in found["claim"][:2]} == {"edit", "field"}
    assert all(one.count == 20 and one.z_score > 2 for name in texts for one in found[name][:2])
    assert "please" not in {one.word for name in texts for one in found[name]}


def test_a_word_counts_once_per_text_and_an_empty_adapter_has_none():
    found = telling_words({"a": ["spam spam spam", "egg"], "b": []}, 5)
    assert found["b"] == ()
    assert {one.word: one.count for one in found["a"]}.get("spam", 1) == 1
