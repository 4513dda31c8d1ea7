"""What every comparison of texts promises."""

import pytest

from adapters.datasets.sklearn_similarity import SklearnSimilarity
from adapters.in_memory.similarity import TrigramSimilarity

TEXTS = [
    "Click December 3 in the calendar",
    "  click december 3 IN the calendar",
    "Click December 4 in the calendar",
    "zzz qqq",
    "Choose a provider from the list",
]
GROUPS = [0, 1, 1, 1, 0]


@pytest.fixture(params=[SklearnSimilarity, TrigramSimilarity])
def similarity(request):
    return request.param()


def test_equal_texts_of_two_groups_are_the_most_similar_pair(similarity):
    pairs, total = similarity.similar_pairs(TEXTS, GROUPS, threshold=0.5, limit=10)
    assert (pairs[0].first, pairs[0].second) == (0, 1)
    assert pairs[0].similarity == pytest.approx(1, abs=1e-6)
    assert (pairs[1].first, pairs[1].second) == (0, 2)
    assert 0.5 <= pairs[1].similarity < 1
    assert total == 2


def test_only_pairs_across_groups_each_once_in_falling_order(similarity):
    pairs, total = similarity.similar_pairs(TEXTS, GROUPS, threshold=1e-5, limit=100)
    assert total == len(pairs) == len({(pair.first, pair.second) for pair in pairs})
    assert all(pair.first < pair.second and GROUPS[pair.first] != GROUPS[pair.second] for pair in pairs)
    values = [pair.similarity for pair in pairs]
    assert values == sorted(values, reverse=True)
    assert all(0 < value <= 1 for value in values)


def test_the_order_of_the_texts_does_not_matter(similarity):
    forwards, _ = similarity.similar_pairs(TEXTS, GROUPS, threshold=0.1, limit=100)
    backwards, _ = similarity.similar_pairs(TEXTS[::-1], GROUPS[::-1], threshold=0.1, limit=100)
    last = len(TEXTS) - 1
    assert {(one.first, one.second): pytest.approx(one.similarity) for one in forwards} == {
        (last - one.second, last - one.first): one.similarity for one in backwards
    }


def test_the_limit_cuts_the_list_and_not_the_count(similarity):
    pairs, total = similarity.similar_pairs(TEXTS, GROUPS, threshold=0.5, limit=1)
    assert (len(pairs), total) == (1, 2)


@pytest.mark.parametrize(("texts", "groups"), [([], []), (["a"], [0]), (["a", "a"], [0, 0]), (["!", "?"], [0, 1])])
def test_nothing_to_compare_gives_nothing(similarity, texts, groups):
    assert similarity.similar_pairs(texts, groups, threshold=0.5, limit=5) == ([], 0)
