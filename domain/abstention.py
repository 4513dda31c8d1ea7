"""When to abstain: limits on confidence and out-of-scope score, fitted on rows that the head was not trained on."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final

from attrs import frozen

from domain.errors import UsageError
from domain.routing import AbstentionThresholds

CERTAINTY: Final = 0.9
"""How certain the error bound is behind the abstention thresholds."""

IN_SCOPE_REFUSED: Final = 0.05
"""At most about this share of in-scope prompts is taken for out of scope."""


@frozen
class ScoredRow:
    """What a router made of one prompt whose answer is known.

    Attributes:
        confidence: calibrated probability of the best adapter, 0 to 1.
        out_of_scope: out-of-scope score.
        right: whether the best adapter is the right one; False for a prompt that belongs to none.
    """

    confidence: float
    out_of_scope: float
    right: bool


@frozen
class ThresholdFit:
    """Fitted thresholds and what they are expected to do.

    Attributes:
        thresholds: when to abstain.
        error_bound: upper confidence bound of the error rate among answered prompts; see :func:`error_bound`.
        coverage: share of the in-scope validation prompts that are answered.
        reached: whether the bound is at most the target.
    """

    thresholds: AbstentionThresholds
    error_bound: float
    coverage: float
    reached: bool


def error_bound(wrong: int, answered: int) -> float:
    """Return the error rate that is exceeded with a probability of at most 1 - `CERTAINTY`.

    Clopper and Pearson's one-sided bound: the rate at which `wrong` errors or fewer in `answered` answers would
    still have that probability. No errors among 60 answers bound the rate by 0.038, among 200 by 0.011.
    """
    if wrong >= answered:
        return 1.0
    low, high = 0.0, 1.0
    for _ in range(40):
        middle = (low + high) / 2
        if _at_most(wrong, answered, middle) > 1.0 - CERTAINTY:
            low = middle
        else:
            high = middle
    return high


def _at_most(wrong: int, answered: int, rate: float) -> float:
    """Return the binomial probability of `wrong` errors or fewer in `answered` answers at an error rate in (0, 1)."""
    log_rate, log_rest = math.log(rate), math.log1p(-rate)
    ways = math.lgamma(answered + 1)
    return sum(
        math.exp(ways - math.lgamma(k + 1) - math.lgamma(answered - k + 1) + k * log_rate + (answered - k) * log_rest)
        for k in range(wrong + 1)
    )


def fit_min_confidence(rows: Sequence[ScoredRow], target_error: float) -> float:
    """Return the lowest confidence at which the error bound of the rows above it is at most the target.

    This is selection with guaranteed risk (Geifman and El-Yaniv 2017, "Selective Classification for Deep Neural
    Networks") without their correction for looking at several limits: the certainty is nominal. When no limit
    reaches the target, the one with the lowest bound: rows without any error are all answered, however few they
    are. 0 when all rows may be answered; else the limit lies half-way between the least confident answered row and
    the next one below.
    """
    ranked = sorted(rows, key=lambda row: -row.confidence)
    limits = _limits(ranked)
    reaching = [count for count, wrong in limits if _reaches(wrong, count, target_error)]
    best = (
        max(reaching) if reaching else min(limits, key=lambda limit: (error_bound(limit[1], limit[0]), -limit[0]))[0]
    )
    if best == len(ranked):
        return 0.0
    return (ranked[best - 1].confidence + ranked[best].confidence) / 2


def _reaches(wrong: int, answered: int, target: float) -> bool:
    """Tell whether the error bound is at most the target, without finding the bound."""
    if wrong / answered >= target:
        return target >= 1.0
    return target >= 1.0 or _at_most(wrong, answered, target) <= 1.0 - CERTAINTY


def _limits(ranked: Sequence[ScoredRow]) -> list[tuple[int, int]]:
    """Return the limits worth a look as (rows answered, errors among them), the strictest first.

    Equal confidences are answered or refused together, and stopping short of a row that is right gains nothing.
    """
    limits = []
    wrong = 0
    for count, row in enumerate(ranked, start=1):
        wrong += not row.right
        last = count == len(ranked)
        if not last and ranked[count].confidence == row.confidence:
            continue
        if last or any(not each.right for each in _group(ranked, count)):
            limits.append((count, wrong))
    return limits


def _group(ranked: Sequence[ScoredRow], start: int) -> list[ScoredRow]:
    """Return the rows from `start` that share its confidence."""
    group = []
    for row in ranked[start:]:
        if row.confidence != ranked[start].confidence:
            break
        group.append(row)
    return group


def fit_max_out_of_scope(scores: Sequence[float], refused: float) -> float:
    """Return the limit that a new in-scope prompt's score exceeds with probability at most `refused`.

    The split-conformal quantile: the ceil((n + 1)(1 - refused))-th smallest of the n in-scope scores. With too few
    scores for that quantile, a margin of the scores' own spread is added to the highest.
    """
    ordered = sorted(scores)
    rank = math.ceil((len(ordered) + 1) * (1.0 - refused))
    if rank <= len(ordered):
        return ordered[max(rank, 1) - 1]
    return ordered[-1] + (ordered[-1] - ordered[len(ordered) // 2])


def separating_limit(inside: Sequence[float], outside: Sequence[float]) -> float:
    """Return the limit that best tells in-scope scores (below) from out-of-scope ones (above).

    Best by Youden's J (share of out-of-scope refused minus share of in-scope refused), which does not depend on how
    many of each there are; among equals the most generous limit.
    """
    ordered = sorted({*inside, *outside})
    refused_in, refused_out = sorted(inside), sorted(outside)
    best, best_j = ordered[-1], 0.0
    below_in = below_out = 0
    for position, value in enumerate(ordered):
        while below_in < len(refused_in) and refused_in[below_in] <= value:
            below_in += 1
        while below_out < len(refused_out) and refused_out[below_out] <= value:
            below_out += 1
        j = below_in / len(refused_in) - below_out / len(refused_out)
        if j >= best_j and position + 1 < len(ordered):
            best, best_j = (value + ordered[position + 1]) / 2, j
    return best


def fit_thresholds(
    rows: Sequence[ScoredRow],
    target_error: float,
    out_of_scope: Sequence[ScoredRow] = (),
    stand_ins: Sequence[float] = (),
) -> ThresholdFit:
    """Return thresholds fitted to a target error rate, on rows that the head was not trained on.

    First the out-of-scope limit: the one that separates the out-of-scope prompts best, or the stand-ins where there
    are none, as long as it refuses at most `IN_SCOPE_REFUSED` of the in-scope prompts (or `target_error`, when that
    is more; with fewer than about 20 of them, none). Stand-ins are no strangers, so that with them at least the
    lesser of the two is refused. Then, among the rows below it, the lowest confidence limit whose error bound
    reaches the target.

    Args:
        rows: validation prompts.
        target_error: share of wrong answers among the prompts that are answered, 0 to 1.
        out_of_scope: prompts that belong to no adapter.
        stand_ins: out-of-scope scores of prompts that play such prompts where there are none.

    Raises:
        UsageError: no rows, or a target outside 0..1.
    """
    if not rows:
        raise UsageError("thresholds need at least one validation row")
    if not 0.0 <= target_error <= 1.0:
        raise UsageError(f"target-error {target_error} is not between 0 and 1")
    inside = [row.out_of_scope for row in rows]
    strict = fit_max_out_of_scope(inside, max(target_error, IN_SCOPE_REFUSED))
    if out_of_scope:
        separating = separating_limit(inside, [row.out_of_scope for row in out_of_scope])
        limit = max(separating, min(strict, max(inside)))  # no margin beyond the prompts: the examples tell where
    else:
        generous = fit_max_out_of_scope(inside, min(target_error, IN_SCOPE_REFUSED))
        wanted = separating_limit(inside, stand_ins) if stand_ins else strict
        limit = min(max(wanted, strict), generous)
    near = [row for row in rows if row.out_of_scope <= limit]
    min_confidence = fit_min_confidence(near, target_error) if near else 1.0
    answered = [row for row in near if row.confidence >= min_confidence]
    bound = error_bound(sum(not row.right for row in answered), len(answered))
    thresholds = AbstentionThresholds(min_confidence, limit)
    return ThresholdFit(thresholds, bound, len(answered) / len(rows), bound <= target_error)
