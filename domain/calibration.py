"""Making scores mean something: a temperature for the probabilities, thresholds for abstaining."""

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
"""Without out-of-scope examples, at most about this share of in-scope prompts is taken for out of scope."""

SMOOTHING: Final = 0.25
"""How many rows' worth of doubt are added when a temperature is fitted."""

TEMPERATURE_RANGE: Final = (0.05, 20.0)
"""Fitted temperatures stay within these limits."""


def fit_temperature(logits: Sequence[Sequence[float]], labels: Sequence[int]) -> float:
    """Return the temperature under which softmax(logits / T) fits the labels best.

    Guo et al. 2017, "On Calibration of Modern Neural Networks", with targets smoothed in the manner of Platt (1999):
    of n rows, each gives up `SMOOTHING` / (n + 1) of its true label to the others. Without that, rows that are all
    right ask for T = 0, that is for certainty, however few they are. How much is given up was measured: Platt's own
    1 / (n + 2) makes routers with few validation rows too timid.

    Args:
        logits: uncalibrated logits of rows that the head was not trained on, one sequence per row.
        labels: the rows' true labels.

    Returns:
        T, within `TEMPERATURE_RANGE`. The loss is convex in 1/T, so its minimum is found by bisection on the slope.

    Raises:
        UsageError: no rows, or not as many labels as rows, or a logit that is not finite.
    """
    if not logits or len(logits) != len(labels):
        raise UsageError(f"temperature needs as many labels as rows, at least one: {len(labels)}, {len(logits)}")
    if not all(math.isfinite(value) for row in logits for value in row):
        raise UsageError("temperature needs finite logits")
    spare = SMOOTHING / (len(labels) + 1) / max(len(logits[0]) - 1, 1)
    # What the mean logit under the smoothed targets is, per row: the slope of the loss is its excess over this.
    targets = [
        row[label] * (1.0 - spare * len(row)) + spare * sum(row) for row, label in zip(logits, labels, strict=True)
    ]
    low, high = 1.0 / TEMPERATURE_RANGE[1], 1.0 / TEMPERATURE_RANGE[0]
    for _ in range(40):
        middle = math.sqrt(low * high)
        if _slope(logits, targets, middle) < 0:
            low = middle
        else:
            high = middle
    return 1.0 / math.sqrt(low * high)


def _slope(logits: Sequence[Sequence[float]], targets: Sequence[float], inverse: float) -> float:
    """Return the derivative of the summed loss by the inverse temperature."""
    slope = 0.0
    for row, target in zip(logits, targets, strict=True):
        top = max(row)
        weights = [math.exp((value - top) * inverse) for value in row]
        slope += sum(weight * value for weight, value in zip(weights, row, strict=True)) / sum(weights) - target
    return slope


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

    First the out-of-scope limit. Where out-of-scope prompts are given, it is the one that separates them best. Else
    it is the one that separates the stand-ins best, as long as the share of in-scope prompts that it refuses is
    between `target_error` and `IN_SCOPE_REFUSED`. Then, among the rows below it, the lowest confidence limit whose
    error bound reaches the target.

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
    if out_of_scope:
        limit = separating_limit(inside, [row.out_of_scope for row in out_of_scope])
    else:
        strict = fit_max_out_of_scope(inside, max(target_error, IN_SCOPE_REFUSED))
        generous = fit_max_out_of_scope(inside, min(target_error, IN_SCOPE_REFUSED))
        wanted = separating_limit(inside, stand_ins) if stand_ins else strict
        limit = min(max(wanted, strict), generous)
    near = [row for row in rows if row.out_of_scope <= limit]
    min_confidence = fit_min_confidence(near, target_error) if near else 1.0
    answered = [row for row in near if row.confidence >= min_confidence]
    bound = error_bound(sum(not row.right for row in answered), len(answered))
    thresholds = AbstentionThresholds(min_confidence, limit)
    return ThresholdFit(thresholds, bound, len(answered) / len(rows), bound <= target_error)
