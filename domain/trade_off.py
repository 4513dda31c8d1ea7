"""What other limits would do to prompts that a router has not seen."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from attrs import frozen

from domain.abstention import Evidence, ScoredRow, rows_by_kind
from domain.routing import AbstentionThresholds

LIMITS_SHOWN: Final = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2)
"""Target errors that a trade-off is shown for."""


@frozen
class TradeOff:
    """What one pair of limits does to prompts that the router has not seen.

    Attributes:
        target_error: error rate that the limits are fitted to.
        min_confidence: the limit on confidence.
        max_out_of_scope: the limit on the out-of-scope score.
        coverage: share of in-scope prompts that are answered.
        error: share of wrong answers among them.
        changed_coverage: share of changed copies that are answered.
        changed_error: share of wrong answers among them.
        refused: share of out-of-scope prompts that are refused.
        strange: share of the refused in-scope prompts and changed copies whose out-of-scope score is too high; the
            others have a low confidence.
    """

    target_error: float
    min_confidence: float
    max_out_of_scope: float
    coverage: float
    error: float
    changed_coverage: float
    changed_error: float
    refused: float
    strange: float = 0.0


def trade_off(rows: Sequence[ScoredRow], *also: float, cleaned: bool = False) -> tuple[TradeOff, ...]:
    """Return what limits fitted to several target errors, and to those in `also`, do to rows not seen in training."""
    own, changed, outside = rows_by_kind(rows)
    evidence = Evidence.of(rows, cleaned=cleaned)
    table = []
    for target in sorted({*LIMITS_SHOWN, *also}):
        limits = evidence.fit(target).thresholds
        coverage, error = _coverage_and_error(own, limits)
        changed_coverage, changed_error = _coverage_and_error(changed, limits)
        refused = sum(not _answered(row, limits) for row in outside) / len(outside) if outside else 0.0
        table.append(
            TradeOff(
                target,
                limits.min_confidence,
                limits.max_out_of_scope,
                coverage,
                error,
                changed_coverage,
                changed_error,
                refused,
                _strange([*own, *changed], limits),
            )
        )
    return tuple(table)


def _answered(row: ScoredRow, limits: AbstentionThresholds) -> bool:
    return row.confidence >= limits.min_confidence and row.out_of_scope <= limits.max_out_of_scope


def _strange(rows: Sequence[ScoredRow], limits: AbstentionThresholds) -> float:
    refused = [row for row in rows if not _answered(row, limits)]
    return sum(row.out_of_scope > limits.max_out_of_scope for row in refused) / len(refused) if refused else 0.0


def _coverage_and_error(rows: Sequence[ScoredRow], limits: AbstentionThresholds) -> tuple[float, float]:
    answered = [row for row in rows if _answered(row, limits)]
    wrong = sum(not row.right for row in answered)
    return len(answered) / len(rows) if rows else 0.0, wrong / len(answered) if answered else 0.0
