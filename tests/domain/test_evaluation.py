from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.calibration import calibration_curve
from sklearn.metrics import accuracy_score, confusion_matrix, precision_recall_fscore_support, roc_auc_score

from domain.errors import UsageError
from domain.evaluation import GradedRow, auroc, evaluate, reliability_bins, risk_coverage_curve
from domain.labels import LabelMap

LABELS = LabelMap(("a", "b", "c", "never"))
coarse = st.integers(0, 20).map(lambda n: n / 20)  # so that ties happen
graded = st.builds(GradedRow, st.integers(0, 2), st.integers(0, 2), coarse, st.booleans(), coarse)
rows_of = st.lists(graded, min_size=1, max_size=60)


@given(rows_of)
def test_counts_and_rates_are_scikit_learns(rows):
    gold, predicted = [row.gold for row in rows], [row.predicted for row in rows]
    result = evaluate(rows, LABELS)
    assert result.accuracy == pytest.approx(accuracy_score(gold, predicted))
    matrix = confusion_matrix(gold, predicted, labels=range(4))
    assert result.confusion == {(g, p): matrix[g, p] for g in range(4) for p in range(4) if matrix[g, p]}
    expected = precision_recall_fscore_support(gold, predicted, labels=range(4), zero_division=0)
    found = [(each.precision, each.recall, each.f1, each.support) for each in result.adapters]
    np.testing.assert_allclose(found, np.transpose(expected), atol=1e-12)
    assert result.macro_f1 == pytest.approx(expected[2].mean())


@given(st.lists(coarse, min_size=1), st.lists(coarse, min_size=1))
def test_auroc_is_scikit_learns_with_ties(inside, outside):
    truth = [0] * len(inside) + [1] * len(outside)
    assert auroc(inside, outside) == pytest.approx(roc_auc_score(truth, inside + outside))


@given(st.lists(st.tuples(st.booleans(), st.floats(0.001, 0.999)), min_size=1, max_size=80))
def test_reliability_bins_are_scikit_learns(pairs):
    rows = [GradedRow(0, 0 if right else 1, confidence) for right, confidence in pairs]
    bins = reliability_bins(rows, bins=7)
    edges = [edge / 7 for edge in range(8)]
    if any(confidence in edges for _, confidence in pairs):
        return  # the two sides give an edge to different bins
    accuracy, confidence = calibration_curve([right for right, _ in pairs], [c for _, c in pairs], n_bins=7)
    np.testing.assert_allclose([each.accuracy for each in bins], accuracy)
    np.testing.assert_allclose([each.confidence for each in bins], confidence)
    assert sum(each.count for each in bins) == len(rows)
    for each in bins:
        assert each.low <= each.confidence <= each.high
        assert each.high - each.low == pytest.approx(1 / 7)


def test_calibration_error_by_hand():
    rows = [GradedRow(0, 0, 0.95), GradedRow(0, 1, 0.95), GradedRow(0, 0, 0.5), GradedRow(0, 0, 1.0)]
    # one bin with .95, .95 and 1.0 (2 of 3 right), one with .5 (right)
    expected = 3 / 4 * abs(2.9 / 3 - 2 / 3) + 1 / 4 * 0.5
    assert evaluate(rows, LABELS).calibration_error == pytest.approx(expected)


@given(rows_of)
def test_risk_and_coverage_follow_their_definition(rows):
    curve = risk_coverage_curve(rows)
    for point in curve:
        kept = [row for row in rows if row.confidence >= point.confidence]
        assert point.coverage == pytest.approx(len(kept) / len(rows))
        assert point.risk == pytest.approx(sum(not row.right for row in kept) / len(kept))
    assert curve[-1].coverage == 1.0
    mean = np.mean([next(p.risk for p in curve if p.confidence == row.confidence) for row in rows])
    assert evaluate(rows, LABELS).risk_coverage_area == pytest.approx(mean)


@given(rows_of)
def test_coverage_and_selective_accuracy_count_answered_rows_only(rows):
    answered = [row for row in rows if row.answered]
    result = evaluate(rows, LABELS)
    assert result.coverage == pytest.approx(len(answered) / len(rows))
    right = sum(row.gold == row.predicted for row in answered)
    assert result.selective_accuracy == pytest.approx(right / len(answered) if answered else 0.0)


def test_nothing_to_evaluate_and_unknown_labels_are_refused():
    with pytest.raises(UsageError, match="at least one row"):
        evaluate([], LABELS)
    with pytest.raises(UsageError, match="label 9"):
        evaluate([GradedRow(9, 0, 0.5)], LABELS)
    with pytest.raises(UsageError, match="both sides"):
        auroc([], [1.0])
