from __future__ import annotations

import math

import pytest
from scipy.stats import ks_2samp

from domain.traffic import (
    CLUSTER_SIMILARITY,
    CLUSTERED,
    ENOUGH,
    LoggedDecision,
    LoggedFeedback,
    Move,
    clusters,
    joined,
    move,
    new_words,
    words_of,
)


def decision(name: str, reason: str = "confident") -> LoggedDecision:
    return LoggedDecision(name, "2026-11-26T00:00:00+00:00", "red", "red", reason, 0.1, "open", has_text=True)


def test_scores_moved_as_far_as_kolmogorov_and_smirnov_say():
    older, newer = [i / 40 for i in range(40)], [(i / 50) ** 2 for i in range(50)]
    found = move(older, newer)
    assert found is not None
    assert found.distance == pytest.approx(ks_2samp(older, newer).statistic)
    assert found.limit == pytest.approx(1.628 * math.sqrt(90 / 2000))
    assert move(older, older) == Move(0.0, pytest.approx(1.628 * math.sqrt(80 / 1600)))


def test_few_scores_say_nothing():
    assert move([0.0] * (ENOUGH - 1), [1.0] * 99) is None
    assert move([0.0] * 99, [1.0] * (ENOUGH - 1)) is None
    least = move([0.0] * ENOUGH, [1.0] * ENOUGH)
    assert least is not None
    assert (least.distance, least.moved) == (1.0, True)
    assert not Move(0.2, 0.2).moved


def test_words_are_compared_without_case_and_counted_per_prompt():
    assert words_of("Open the DOOR, open it!") == {"open", "the", "door", "it"}
    assert new_words(["Open door", "open window"], frozenset({"open"})) == 0.5
    assert new_words(["?!", ""], frozenset()) is None


def test_prompts_that_share_words_are_one_cluster_and_the_largest_comes_first():
    tyres = [f"change the tyre number {n}" for n in range(5)]
    parcels = [f"where is my parcel {n}" for n in range(6)]
    lonely = ["a b", "c d", "?!", "?!", "?!", "?!", "?!"]  # what has no words shares none
    first, second = clusters([*tyres, *lonely, *parcels])
    assert (first.size, second.size) == (6, 5)
    assert first.words == ("is", "my", "parcel", "where")
    assert first.examples == tuple(parcels[:3])
    assert [one.size for one in clusters([*tyres, *parcels], least=6)] == [6]


def test_a_share_of_words_makes_two_prompts_alike():
    alike = ["a b c d e f g h i j", "a b c"]  # 3 of 10
    assert CLUSTER_SIMILARITY == 0.3
    assert [one.size for one in clusters(alike, least=2)] == [2]
    assert clusters([alike[0], "a b x"], least=2) == []  # 2 of 11


def test_words_of_half_of_the_members_are_shown():
    (one,) = clusters(["a b c", "a b c", "a b d", "a b d"], least=4)
    assert one.words == ("a", "b", "c", "d")
    (one,) = clusters(["a b c", "a b c", "a b d", "a b e", "a b f"], least=5)
    assert one.words == ("a", "b")


def test_only_the_newest_prompts_are_put_into_clusters():
    assert clusters([*["old words"] * 5, *["new talk"] * CLUSTERED]) == clusters(["new talk"] * CLUSTERED)


def test_the_last_word_on_an_answer_counts_and_others_are_left_out():
    said = [LoggedFeedback("1", "blue"), LoggedFeedback("1", None), LoggedFeedback("9", "red")]
    assert joined([decision("1"), decision("2")], said) == [(decision("1"), said[1])]


@pytest.mark.parametrize(
    ("reason", "refused"),
    [("out_of_scope", True), ("low_confidence", True), ("confident", False), ("all_disabled", False)],
)
def test_who_chose_nobody_refused(reason, refused):
    assert decision("1", reason).refused == refused
