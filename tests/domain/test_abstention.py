from __future__ import annotations

import math
import random

import pytest
from attrs import evolve
from hypothesis import given
from hypothesis import strategies as st

from domain.abstention import (
    IN_SCOPE_REFUSED,
    LEFT_OUT_ALLOWANCE,
    OUT_OF_SCOPE_ANSWERED,
    SURE,
    UNSEEN,
    ScoredRow,
    fit_max_out_of_scope,
    fit_min_confidence,
    fit_thresholds,
    separating_limit,
)
from domain.errors import UsageError
from domain.reliability import CERTAINTY, Reliability, error_bound
from domain.trade_off import LIMITS_SHOWN, trade_off

coarse = st.integers(0, 20).map(lambda n: n / 20)
scored = st.builds(ScoredRow, coarse, coarse, st.booleans())


@given(st.lists(scored, min_size=1, max_size=40), st.sampled_from([0.0, 0.02, 0.1, 0.3, 0.6, 1.0]))
def test_no_other_confidence_limit_that_reaches_the_target_answers_more(rows, target):
    limit = fit_min_confidence(rows, target)
    curve = Reliability.of([row.confidence for row in rows], [row.right for row in rows])

    def kept(at):
        return [row for row in rows if row.confidence >= at]

    def doubts(at):
        return [1 - curve.chance(row.confidence) for row in kept(at)]

    def sure(at):
        likely = max(doubts(at), default=0) <= max(target, 1 / (len(rows) + 1))
        return likely and all(row.right for row in kept(at))

    places = [row.confidence for row in rows]
    most_sure = max((len(kept(at)) for at in places if sure(at)), default=0)
    margin = most_sure if most_sure == len(rows) else math.ceil(SURE * most_sure)

    def allowed(at):
        count = len(kept(at))
        return count <= margin or error_bound(UNSEEN + sum(doubts(at)), count) <= target

    assert len(kept(limit)) == max((len(kept(at)) for at in places if allowed(at)), default=0)


def test_rows_without_errors_are_all_answered_however_few_they_are():
    rows = [ScoredRow(confidence, 0.0, True) for confidence in (0.4, 0.9, 0.99)]
    assert fit_min_confidence(rows, 0.02) == 0.0


def test_where_the_target_is_out_of_reach_the_rows_that_are_hardly_surer_than_an_error_are_refused():
    sure = [ScoredRow(1 - step / 10_000, 0.0, True) for step in range(1, 21)]
    rows = [*sure, *[ScoredRow(0.5, 0.0, False)] * 20]
    limit = fit_min_confidence(rows, 0.05)
    assert [row.confidence >= limit for row in sure] == [True] * 6 + [False] * 14  # ten are likely enough to be right


@pytest.mark.parametrize(("unsure", "target"), [(0, 0.02), (150, 0.02), (400, 0.05)])
def test_who_names_no_target_gets_the_strict_one_unless_it_refuses_most_prompts(unsure, target):
    rows = [ScoredRow(0.99, 0.0, True)] * 200 + [ScoredRow(0.6, 0.0, step % 2 == 0) for step in range(unsure)]
    fit, named = fit_thresholds(rows, None), fit_thresholds(rows, target)
    assert fit.target_error == target
    assert (fit.thresholds, fit.coverage, fit.reached) == (named.thresholds, named.coverage, named.reached)
    told = "2% would answer 33% of prompts like these; none was asked for, so the limits are fitted to 5%"
    assert [note for note in fit.notes if note not in named.notes] == (
        [] if target == 0.02 else [f"a target error of {told}"]
    )


def test_the_error_rate_of_new_prompts_stays_under_the_target_as_often_as_promised():
    rng = random.Random(11)

    def draw(n):
        made = []
        for _ in range(n):
            confidence = 1 - rng.random() ** 2 / 2
            made.append(ScoredRow(confidence, 0.0, rng.random() < confidence))
        return made

    kept = 0
    for _ in range(60):
        limit = fit_min_confidence(draw(300), 0.1)
        answered = [row for row in draw(2000) if row.confidence >= limit]
        kept += sum(not row.right for row in answered) <= 0.1 * len(answered)
    assert kept / 60 >= CERTAINTY - 0.05


def test_errors_on_an_adapter_of_few_rows_count_as_much_as_those_on_one_of_many():
    large = [ScoredRow(0.9 + 0.0001 * n, 0.0, True) for n in range(400)]
    small = [ScoredRow(0.905 + 0.001 * n, 0.0, n % 2 == 0) for n in range(8)]
    assert fit_min_confidence([*large, *small], 0.05) < 0.9  # 4 wrong among 408: all may be answered
    heavy = [evolve(row, weight=50.0) for row in small]
    assert fit_min_confidence([*large, *heavy], 0.05) > 0.91  # but half of the small adapter's are wrong
    tripled = [evolve(row, weight=3.0) for row in (*large, *small)]
    assert fit_min_confidence(tripled, 0.05) == fit_min_confidence([*large, *small], 0.05)


def test_a_weighted_conformal_limit_is_that_of_repeated_scores():
    assert fit_max_out_of_scope([1.0, 2.0, 3.0], 0.3, [1, 1, 6]) == fit_max_out_of_scope([1, 2, *[3.0] * 6], 0.3)
    assert fit_max_out_of_scope([3.0, 1.0, 2.0], 0.3, [1, 6, 1]) == 2.0


@given(st.lists(st.floats(-5, 5), min_size=1, max_size=60), st.floats(0, 1))
def test_the_conformal_limit_refuses_at_most_its_share_of_the_known_scores(scores, refused):
    limit = fit_max_out_of_scope(scores, refused)
    above = sum(score > limit for score in scores)
    assert above <= refused * (len(scores) + 1)


def test_the_conformal_limit_keeps_its_promise_for_new_prompts():
    rng = random.Random(5)
    shares = []
    for _ in range(300):
        limit = fit_max_out_of_scope([rng.gauss(0, 1) for _ in range(99)], 0.1)
        shares.append(sum(rng.gauss(0, 1) > limit for _ in range(50)) / 50)
    assert sum(shares) / len(shares) == pytest.approx(0.1, abs=0.02)


@given(st.lists(coarse, min_size=1, max_size=20), st.lists(coarse, min_size=1, max_size=20))
def test_no_limit_separates_better(inside, outside):
    def youden(at):
        return sum(s <= at for s in inside) / len(inside) - sum(s <= at for s in outside) / len(outside)

    limit = separating_limit(inside, outside)
    assert youden(limit) == pytest.approx(max(0.0, *(youden(s) for s in (*inside, *outside))))


def outside(scores: list[float], confidence: float = 0.5) -> list[ScoredRow]:
    return [ScoredRow(confidence, score, False, in_scope=False) for score in scores]


def answered(rows, limits):
    return [r for r in rows if r.confidence >= limits.min_confidence and r.out_of_scope <= limits.max_out_of_scope]


def test_out_of_scope_prompts_set_the_limit_between_both_kinds():
    rows = [ScoredRow(0.99, i / 100, True) for i in range(50)]
    fit = fit_thresholds([*rows, *outside([0.8 + i / 100 for i in range(9)], 0.9)], 0.05)
    assert 0.49 < fit.thresholds.max_out_of_scope < 0.8
    assert fit.coverage == 1.0
    assert fit.reached


KNOWN = [ScoredRow(0.99, i / 1000, True) for i in range(1000)]


@pytest.mark.parametrize("out_of_scope", [[], [0.5] * 9, [0.5 + i / 1000 for i in range(900)]])
def test_out_of_scope_prompts_among_the_known_ones_cost_no_more_coverage_than_the_share(out_of_scope):
    fit = fit_thresholds([*KNOWN, *outside(out_of_scope)], 0.02)
    assert fit.coverage == pytest.approx(1 - IN_SCOPE_REFUSED, abs=0.002)


def test_where_out_of_scope_prompts_can_be_told_no_more_is_refused_than_it_takes():
    assert fit_thresholds([*KNOWN, *outside([0.97 + i / 9000 for i in range(9)])], 0.02).coverage > 0.96
    assert fit_thresholds([*KNOWN, *outside([5.0] * 9)], 0.02).coverage == 1.0


def test_rows_that_are_much_alike_do_not_make_the_limit_stricter_than_out_of_scope_prompts_ask_for():
    rows = [ScoredRow(0.99, i / 10_000, True) for i in range(100)]
    out_of_scope = [ScoredRow(0.2 + i / 500, 0.05 + i / 100, False, in_scope=False) for i in range(100)]
    fit = fit_thresholds([*rows, *out_of_scope], 0.02)
    assert fit.thresholds.max_out_of_scope == pytest.approx(0.15)
    assert fit.coverage == 1.0
    assert len(answered(out_of_scope, fit.thresholds)) <= OUT_OF_SCOPE_ANSWERED * 100


def test_confident_out_of_scope_prompts_within_the_limit_raise_the_confidence_limit():
    rows = [ScoredRow(0.5 + i / 2000, i / 1000, True) for i in range(1000)]
    out_of_scope = outside([0.5] * 100, 0.8)
    limits = fit_thresholds([*rows, *out_of_scope], 0.02).thresholds
    assert len(answered(out_of_scope, limits)) <= OUT_OF_SCOPE_ANSWERED * 100
    assert limits.min_confidence > 0.8


def test_out_of_scope_prompts_are_no_errors_of_the_data():
    fit = fit_thresholds([*KNOWN, *outside([5.0] * 900, 0.99)], 0.02)
    assert (fit.coverage, fit.reached) == (1.0, True)


def test_changed_copies_must_reach_the_target_too():
    own = [ScoredRow(0.5 + i / 1000, 0.0, True) for i in range(400)]
    copies = [ScoredRow(0.5 + i / 1000, 0.0, i > 200, changed=True) for i in range(400)]
    assert fit_thresholds(own, 0.02).thresholds.min_confidence == 0.0
    limits = fit_thresholds([*own, *copies], 0.02).thresholds
    kept = answered(copies, limits)
    assert error_bound(sum(not row.right for row in kept), len(kept)) <= LEFT_OUT_ALLOWANCE * 0.02
    assert limits.min_confidence > 0.65


mixed = st.builds(ScoredRow, coarse, coarse, st.booleans(), st.just(True), st.booleans())
strange = st.builds(ScoredRow, coarse, coarse, st.just(False), st.just(False))


@given(st.lists(mixed, min_size=1, max_size=40), st.lists(strange, max_size=20))
def test_a_looser_target_never_refuses_more(rows, out_of_scope):
    rows = [ScoredRow(0.7, 0.2, True), *rows, *out_of_scope]
    limits = [fit_thresholds(rows, target).thresholds for target in (0.0, *LIMITS_SHOWN, 0.5, 1.0)]
    assert len({each.max_out_of_scope for each in limits}) == 1
    confidences = [each.min_confidence for each in limits]
    assert confidences == sorted(confidences, reverse=True)


def test_few_rows_with_an_error_fail_closed_and_say_so():
    rows = [ScoredRow(0.5 + i / 20, 0.0, i != 4) for i in range(8)]
    fit = fit_thresholds(rows, 0.02)
    assert not fit.reached
    assert fit.coverage < 0.5
    assert any("cannot be shown" in note for note in fit.notes)


def test_wrong_labels_cost_some_coverage_and_are_named():
    rng = random.Random(3)
    rows = [ScoredRow(1 - rng.random() / 3, 0.0, rng.random() > 0.1) for _ in range(600)]
    fit = fit_thresholds(rows, 0.02)
    assert fit.coverage > 0.7
    assert any("wrong labels" in note for note in fit.notes)
    assert not fit_thresholds([row for row in rows if row.right], 0.02).notes


def test_the_trade_off_says_what_each_limit_does():
    rng = random.Random(2)
    rows = []
    for changed in (False, True):
        for _ in range(300):
            confidence = 1 - rng.random() / 2
            rows.append(ScoredRow(confidence, rng.random(), rng.random() < confidence**0.3, changed=changed))
    out_of_scope = outside([0.7 + i / 100 for i in range(100)])
    table = trade_off([*rows, *out_of_scope])
    assert tuple(each.target_error for each in table) == LIMITS_SHOWN
    for each in table:
        limits = fit_thresholds([*rows, *out_of_scope], each.target_error).thresholds
        assert (each.min_confidence, each.max_out_of_scope) == (limits.min_confidence, limits.max_out_of_scope)
        own = [row for row in rows if not row.changed]
        kept = answered(own, limits)
        assert each.coverage == len(kept) / 300
        assert each.error == pytest.approx(sum(not row.right for row in kept) / max(len(kept), 1))
        assert each.changed_coverage == len(answered(rows[300:], limits)) / 300
        assert each.refused == 1 - len(answered(out_of_scope, limits)) / 100
    coverage = [each.coverage for each in table]
    assert coverage == sorted(coverage)
    assert trade_off(rows)[0].refused == 0.0


def test_nothing_to_fit_on_and_impossible_targets_are_refused():
    with pytest.raises(UsageError, match="at least one"):
        fit_thresholds([], 0.02)
    with pytest.raises(UsageError, match=r"1\.5"):
        fit_thresholds([ScoredRow(0.5, 0.5, True)], 1.5)


def test_where_labels_are_noisy_a_looser_target_refuses_no_more_either():
    rows = [ScoredRow(0.5 + i / 100, 0.0, i % 4 != 0) for i in range(40)]
    limits = [
        fit_thresholds(rows, target).thresholds.min_confidence for target in (0.0, *LIMITS_SHOWN, 0.3, 0.5, 1.0)
    ]
    assert limits == sorted(limits, reverse=True)


def test_with_too_few_scores_for_the_quantile_the_upper_half_is_added_to_the_highest():
    assert fit_max_out_of_scope([0.0, 1.0, 2.0, 3.0, 4.0, 5.0], 0.01) == 5.0 + (5.0 - 3.0)
