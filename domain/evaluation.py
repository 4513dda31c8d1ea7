"""How good a router's decisions are, as pure functions of graded rows.

Rates are 0 to 1. A rate over nothing (the precision of an adapter that was never predicted) is 0, as in
scikit-learn with ``zero_division=0``.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final

from attrs import frozen

from domain.errors import UsageError
from domain.labels import LabelMap

CALIBRATION_BINS: Final = 15
"""Equal-width confidence bins of the expected calibration error, as in Guo et al. 2017."""


@frozen
class GradedRow:
    """One routed prompt whose right adapter is known.

    Attributes:
        gold: label of the right adapter.
        predicted: label of the adapter with the highest probability.
        confidence: calibrated probability of `predicted`.
        answered: whether the router answered instead of abstaining.
        out_of_scope: out-of-scope score.
    """

    gold: int
    predicted: int
    confidence: float
    answered: bool = True
    out_of_scope: float = 0.0

    @property
    def right(self) -> bool:
        """Whether the predicted adapter is the right one."""
        return self.gold == self.predicted


@frozen
class AdapterFigures:
    """How well one adapter's prompts are found.

    Attributes:
        adapter: the adapter's name.
        precision: right ones among the prompts that were sent to it.
        recall: found ones among its own prompts.
        f1: harmonic mean of both.
        support: number of its own prompts.
    """

    adapter: str
    precision: float
    recall: float
    f1: float
    support: int


@frozen
class CalibrationBin:
    """The rows whose confidence lies in one interval.

    Attributes:
        low: lower end, excluded (0 is included in the first bin).
        high: upper end, included.
        count: rows.
        confidence: their mean confidence.
        accuracy: share of them that is right.
    """

    low: float
    high: float
    count: int
    confidence: float
    accuracy: float


@frozen
class RiskPoint:
    """What happens when only prompts with at least this confidence are answered.

    Attributes:
        confidence: the limit.
        coverage: share of prompts that are answered.
        risk: share of wrong ones among them.
    """

    confidence: float
    coverage: float
    risk: float


@frozen
class Evaluation:
    """The figures of one evaluation.

    Attributes:
        total: rows.
        correct: rows whose best adapter is the right one, abstention aside.
        confusion: ``(gold, predicted)`` labels to number of rows; pairs without rows are left out.
        adapters: figures per adapter, in label order.
        calibration_error: expected calibration error.
        reliability: the bins behind it; empty bins are left out.
        risk_coverage: the risk-coverage curve, from the most confident rows to all.
        risk_coverage_area: area under it (AURC): mean risk over the rows' own confidences as limits.
        coverage: share of rows that the router answers at its own thresholds.
        selective_accuracy: share of right ones among the answered rows.
    """

    total: int
    correct: int
    confusion: dict[tuple[int, int], int]
    adapters: tuple[AdapterFigures, ...]
    calibration_error: float
    reliability: tuple[CalibrationBin, ...]
    risk_coverage: tuple[RiskPoint, ...]
    risk_coverage_area: float
    coverage: float
    selective_accuracy: float

    @property
    def accuracy(self) -> float:
        """Share of rows whose best adapter is the right one, abstention aside."""
        return self.correct / self.total

    @property
    def macro_f1(self) -> float:
        """Mean F1 over the adapters."""
        return sum(each.f1 for each in self.adapters) / len(self.adapters)


def evaluate(rows: Sequence[GradedRow], labels: LabelMap) -> Evaluation:
    """Return all figures of graded rows; raises UsageError without rows or for labels outside the map."""
    if not rows:
        raise UsageError("an evaluation needs at least one row")
    confusion = confusion_counts(rows, labels)
    bins = reliability_bins(rows)
    curve = risk_coverage_curve(rows)
    answered = [row for row in rows if row.answered]
    return Evaluation(
        total=len(rows),
        correct=sum(row.right for row in rows),
        confusion=confusion,
        adapters=adapter_figures(confusion, labels),
        calibration_error=sum(each.count * abs(each.confidence - each.accuracy) for each in bins) / len(rows),
        reliability=bins,
        risk_coverage=curve,
        risk_coverage_area=_area(curve),
        coverage=len(answered) / len(rows),
        selective_accuracy=_rate(sum(row.right for row in answered), len(answered)),
    )


def confusion_counts(rows: Sequence[GradedRow], labels: LabelMap) -> dict[tuple[int, int], int]:
    """Return how many rows there are of each ``(gold, predicted)``, in label order, without empty pairs."""
    counts: dict[tuple[int, int], int] = {}
    for row in rows:
        for label in (row.gold, row.predicted):
            labels.name_of(label)
        counts[row.gold, row.predicted] = counts.get((row.gold, row.predicted), 0) + 1
    return dict(sorted(counts.items()))


def adapter_figures(confusion: dict[tuple[int, int], int], labels: LabelMap) -> tuple[AdapterFigures, ...]:
    """Return precision, recall, F1 and support of each adapter."""
    figures = []
    for each in labels:
        found = confusion.get((each.label, each.label), 0)
        sent = sum(count for (_, predicted), count in confusion.items() if predicted == each.label)
        own = sum(count for (gold, _), count in confusion.items() if gold == each.label)
        figures.append(
            AdapterFigures(each.name, _rate(found, sent), _rate(found, own), _rate(2 * found, sent + own), own)
        )
    return tuple(figures)


def reliability_bins(rows: Sequence[GradedRow], bins: int = CALIBRATION_BINS) -> tuple[CalibrationBin, ...]:
    """Return the rows grouped by confidence into equal-width bins, empty ones left out."""
    grouped: dict[int, list[GradedRow]] = {}
    for row in rows:
        index = min(max(math.ceil(row.confidence * bins) - 1, 0), bins - 1)
        grouped.setdefault(index, []).append(row)
    return tuple(
        CalibrationBin(
            index / bins,
            (index + 1) / bins,
            len(inside),
            sum(row.confidence for row in inside) / len(inside),
            sum(row.right for row in inside) / len(inside),
        )
        for index, inside in sorted(grouped.items())
    )


def risk_coverage_curve(rows: Sequence[GradedRow]) -> tuple[RiskPoint, ...]:
    """Return the risk at every confidence that occurs, highest first; equal confidences are answered together."""
    ranked = sorted(rows, key=lambda row: -row.confidence)
    points = []
    wrong = 0
    for count, row in enumerate(ranked, start=1):
        wrong += not row.right
        if count == len(ranked) or ranked[count].confidence != row.confidence:
            points.append(RiskPoint(row.confidence, count / len(ranked), wrong / count))
    return tuple(points)


def auroc(inside: Sequence[float], outside: Sequence[float]) -> float:
    """Return the probability that a score from `outside` exceeds one from `inside`, ties counting half.

    This is the area under the ROC curve of telling both apart by score (Mann and Whitney's U); raises UsageError
    when either is empty.
    """
    if not inside or not outside:
        raise UsageError("AUROC needs scores on both sides")
    ranked = sorted([(score, 0) for score in inside] + [(score, 1) for score in outside])
    wins, passed, position = 0.0, 0, 0
    while position < len(ranked):
        end = position
        while end < len(ranked) and ranked[end][0] == ranked[position][0]:
            end += 1
        outs = sum(side for _, side in ranked[position:end])
        ins = end - position - outs
        wins += outs * (passed + ins / 2)
        passed += ins
        position = end
    return wins / (len(inside) * len(outside))


def _area(curve: Sequence[RiskPoint]) -> float:
    area, before = 0.0, 0.0
    for point in curve:
        area += point.risk * (point.coverage - before)
        before = point.coverage
    return area


def _rate(part: float, whole: float) -> float:
    return part / whole if whole else 0.0
