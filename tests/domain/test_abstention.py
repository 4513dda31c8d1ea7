from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import beta

from domain.abstention import (
    ScoredRow,
    error_bound,
    fit_max_out_of_scope,
    fit_min_confidence,
    fit_thresholds,
    separating_limit,
)
from domain.errors import UsageError

coarse = st.integers(0, 20).map(lambda n: n / 20)
scored = st.builds(ScoredRow, coarse, coarse, st.booleans())


@given(st.integers(1, 400), st.data())
def test_the_error_bound_is_clopper_and_pearsons(answered, data):
    wrong = data.draw(st.integers(0, answered))
    expected = 1.0 if wrong == answered else beta.ppf(0.9, wrong + 1, answered - wrong)
    assert error_bound(wrong, answered) == pytest.approx(expected, abs=1e-6)


@given(st.lists(scored, min_size=1, max_size=40), st.sampled_from([0.0, 0.02, 0.1, 0.3, 0.6, 1.0]))
def test_no_other_confidence_limit_that_reaches_the_target_answers_more(rows, target):
    limit = fit_min_confidence(rows, target)

    def outcome(at):
        kept = [row for row in rows if row.confidence >= at]
        return len(kept), error_bound(sum(not row.right for row in kept), len(kept)) if kept else 1.0

    count, bound = outcome(limit)
    assert count > 0
    others = [outcome(row.confidence) for row in rows]
    reaching = [n for n, b in others if b <= target]
    if reaching:
        assert bound <= target
        assert count == max(reaching)
    else:
        assert bound == pytest.approx(min(b for _, b in others), abs=1e-9)


def test_rows_without_errors_are_all_answered_however_few_they_are():
    rows = [ScoredRow(confidence, 0.0, True) for confidence in (0.4, 0.9, 0.99)]
    assert fit_min_confidence(rows, 0.02) == 0.0


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
    assert kept / 60 >= 0.8


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


def test_out_of_scope_examples_set_the_limit_between_both_kinds():
    rows = [ScoredRow(0.99, i / 100, True) for i in range(50)]
    strangers = [ScoredRow(0.9, 0.8 + i / 100, False) for i in range(10)]
    fit = fit_thresholds(rows, 0.05, strangers)
    assert 0.49 < fit.thresholds.max_out_of_scope < 0.8
    assert fit.coverage == 1.0
    assert fit.reached == (fit.error_bound <= 0.05)
    assert fit.reached


KNOWN = [ScoredRow(0.99, i / 1000, True) for i in range(1000)]


@pytest.mark.parametrize(
    ("stand_ins", "coverage"),
    [
        ((), 0.95),  # nothing to go by: the most that may be refused
        ([0.5] * 9, 0.95),  # among the known ones: no more is refused for them
        ([0.97] * 9, 0.97),  # where they can be separated, they are
        ([5.0] * 9, 0.98),  # far away: the target's share is refused all the same
    ],
)
def test_without_examples_the_stand_ins_decide_within_limits(stand_ins, coverage):
    assert fit_thresholds(KNOWN, 0.02, stand_ins=stand_ins).coverage == pytest.approx(coverage, abs=0.002)


@pytest.mark.parametrize(("target", "coverage"), [(0.02, 0.95), (0.1, 0.9)])
def test_examples_among_the_known_ones_cost_no_more_coverage_than_the_limit(target, coverage):
    examples = [ScoredRow(0.5, 0.5 + i / 1000, False) for i in range(900)]
    assert fit_thresholds(KNOWN, target, examples).coverage == pytest.approx(coverage, abs=0.002)


def test_examples_are_refused_however_few_the_known_ones_are():
    rows = [ScoredRow(0.99, score, True) for score in (-0.9, -0.5, -0.2)]  # a margin of their spread would reach 0.1
    examples = [ScoredRow(0.9, score, False) for score in (-0.1, 0.0)]
    fit = fit_thresholds(rows, 0.05, examples)
    assert -0.2 < fit.thresholds.max_out_of_scope < -0.1
    assert fit.coverage == 1.0
    among_them = [ScoredRow(0.9, -0.4, False)] * 9
    assert fit_thresholds(rows, 0.05, among_them).coverage == 1.0  # too few of them to refuse any


def test_examples_count_more_than_stand_ins():
    examples = [ScoredRow(0.5, 0.5 + i / 1000, False) for i in range(500)]
    with_both = fit_thresholds(KNOWN, 0.02, examples, stand_ins=[0.97] * 9)
    assert with_both.thresholds == fit_thresholds(KNOWN, 0.02, examples).thresholds


def test_nothing_to_fit_on_and_impossible_targets_are_refused():
    with pytest.raises(UsageError, match="at least one"):
        fit_thresholds([], 0.02)
    with pytest.raises(UsageError, match=r"1\.5"):
        fit_thresholds([ScoredRow(0.5, 0.5, True)], 1.5)
