"""When to abstain: limits on confidence and out-of-scope score, fitted on rows that the head was not trained on."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final, Self

from attrs import evolve, frozen

from domain.errors import UsageError
from domain.label_noise import noise_share
from domain.reliability import Reliability, error_bound
from domain.routing import AbstentionThresholds

IN_SCOPE_REFUSED: Final = 0.05
"""About this share of the data's own prompts may be taken for out of scope."""

CHANGED_REFUSED: Final = 0.12
"""And about this share of their changed copies."""

OUT_OF_SCOPE_ANSWERED: Final = 0.03
"""At most about this share of out-of-scope prompts may be answered, as far as confidence can tell them; more where
the target allows more, see `OUT_OF_SCOPE_ALLOWANCE`."""

OUT_OF_SCOPE_ALLOWANCE: Final = 1.5
"""So many times the target error may be answered of the out-of-scope prompts, if that is more."""

REFUSED_BY_SCORE: Final = 0.9
"""A limit on the out-of-scope score that refuses this share of the out-of-scope prompts is strict enough: confidence
refuses the others. Script-made rows are so much alike that a stricter limit would refuse what real people write."""

LEFT_OUT_ALLOWANCE: Final = 1.2
"""Left-out rows may err so many times as often as the target says: they were asked of heads that know four fifths of
the rows and none of their near-duplicates. The head that serves knows all of them."""

DEFAULT_TARGETS: Final = (0.02, 0.05)
"""The target errors of who names none: the first that lets enough be answered, else the last."""

ENOUGH_ANSWERED: Final = 0.5
"""A target is too strict for the data when fewer left-out prompts than this share are answered."""

SURE: Final = 0.6
"""Where no limit reaches the target, so many of the rows that are surer than every error are answered: the next error
may well be surer than those that were seen."""

UNSEEN: Final = 1.0
"""Errors expected among the answers beside those of the curve, since few rows show few of the ways to err."""


@frozen
class ScoredRow:
    """What a router made of one prompt whose answer is known.

    Attributes:
        confidence: calibrated probability of the best adapter, 0 to 1.
        out_of_scope: out-of-scope score.
        right: whether the best adapter is the right one; False for a prompt that belongs to none.
        in_scope: whether the prompt belongs to an adapter.
        changed: whether it is a changed copy of a prompt of the data.
        weight: how much it counts beside the others, above 0. Rows of an adapter with few rows count more, so that
            errors on it are not lost among many right answers of a large one; rows with a doubtful label count less.
    """

    confidence: float
    out_of_scope: float
    right: bool
    in_scope: bool = True
    changed: bool = False
    weight: float = 1.0


@frozen
class ThresholdFit:
    """Fitted thresholds and what they are expected to do.

    Attributes:
        thresholds: when to abstain.
        target_error: the error rate that they are fitted to, 0 to 1.
        error_bound: upper confidence bound of the error rate among answered prompts; see
            :func:`domain.reliability.error_bound`.
        coverage: share of the in-scope prompts that are answered, changed ones aside.
        reached: whether the bound is at most the target.
        notes: what a person should know of the fit.
    """

    thresholds: AbstentionThresholds
    target_error: float
    error_bound: float
    coverage: float
    reached: bool
    notes: tuple[str, ...] = ()


def fit_min_confidence(rows: Sequence[ScoredRow], target_error: float) -> float:
    """Return the lowest confidence at which the expected error rate of the rows above it is at most the target.

    This is selection with a bounded risk (Geifman and El-Yaniv 2017, "Selective Classification for Deep Neural
    Networks"), with the risk read off a curve (see :class:`domain.reliability.Reliability`). Where no limit reaches
    the target, some rows (`SURE`) are answered of those that are surer than every error and likely enough to be right
    themselves. 0 when all rows may be answered; else the limit lies half-way between the least confident answered row
    and the next one below. A looser target never gives a higher limit.
    """
    return _min_confidence(_risks(rows), target_error)


@frozen
class _Risk:
    """One limit: the rows above it.

    Attributes:
        count: how many there are.
        lowest: the lowest confidence among them.
        next: the confidence of the row below; None when there is none.
        bound: see :func:`domain.reliability.error_bound`, of the errors expected among them.
        doubt: how likely the least confident of them is to be wrong; 1 if one of them is.
    """

    count: int
    lowest: float
    next: float | None
    bound: float
    doubt: float


def _risks(rows: Sequence[ScoredRow]) -> list[_Risk]:
    """Return all limits, the strictest first; rows of equal confidence are answered or refused together."""
    if not rows:
        return []
    weights = [row.weight for row in rows]
    curve = Reliability.of([row.confidence for row in rows], [row.right for row in rows], weights)
    ranked = sorted(rows, key=lambda row: -row.confidence)
    risks = []
    total = squares = wrong = 0.0
    clean = True
    for count, row in enumerate(ranked, start=1):
        doubt = 1.0 - curve.chance(row.confidence)
        total, squares, wrong = total + row.weight, squares + row.weight**2, wrong + row.weight * doubt
        clean = clean and row.right
        below = ranked[count].confidence if count < len(ranked) else None
        if below != row.confidence:
            answers = total**2 / squares  # so many rows of equal weight would tell as much (Kish 1965)
            bound = error_bound(UNSEEN + wrong / total * answers, answers)
            risks.append(_Risk(count, row.confidence, below, bound, doubt if clean else 1.0))
    return risks


def _min_confidence(risks: Sequence[_Risk], target_error: float) -> float:
    shown = 1.0 / (risks[-1].count + 1)  # rows that are all right show no less doubt
    sure = [risk for risk in risks if risk.doubt <= max(target_error, shown)]
    surest = _surest(sure[-1].count, risks[-1].count) if sure else 0
    allowed = [risk for risk in risks if risk.bound <= target_error or risk.count <= surest]
    if not allowed:
        return math.nextafter(risks[0].lowest, 2.0)
    last = allowed[-1]
    return 0.0 if last.next is None else (last.lowest + last.next) / 2


def _surest(sure: int, total: int) -> int:
    """Return how many of the rows that are surer than every error are answered: all of them where none is wrong."""
    return sure if sure == total else math.ceil(SURE * sure)


def fit_max_out_of_scope(scores: Sequence[float], refused: float, weights: Sequence[float] = ()) -> float:
    """Return the limit that a new in-scope prompt's score exceeds with probability at most `refused`.

    The split-conformal quantile: of n in-scope scores the ceil((n + 1)(1 - refused))-th smallest; with weights, as
    Tibshirani et al. 2019 have it ("Conformal Prediction Under Covariate Shift"). With too few scores for that
    quantile, a margin of the scores' own spread is added to the highest.
    """
    ranked = sorted(zip(scores, weights or [1.0] * len(scores), strict=True))
    wanted = (sum(weight for _, weight in ranked) + 1.0) * (1.0 - refused)
    below = 0.0
    for score, weight in ranked:
        below += weight
        if below >= wanted - 1e-9:
            return score
    return ranked[-1][0] + (ranked[-1][0] - ranked[len(ranked) // 2][0])


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


def fit_thresholds(rows: Sequence[ScoredRow], target_error: float | None, *, cleaned: bool = False) -> ThresholdFit:
    """Return thresholds fitted to a target error rate, on rows that the router has not seen.

    First the out-of-scope limit, whatever the target: it refuses at most `IN_SCOPE_REFUSED` of the data's own
    prompts and `CHANGED_REFUSED` of their changed copies, and no more than it takes to tell out-of-scope prompts or
    to refuse `REFUSED_BY_SCORE` of them.
    Then, among the rows below it, the lowest confidence limit at which the data's own prompts reach the target
    (`LEFT_OUT_ALLOWANCE` times the target), their changed copies do, and few out-of-scope prompts are answered.
    Where the labels themselves look noisy, the errors that no limit avoids are allowed on top of the target.

    Args:
        rows: prompts of the data, changed copies of them and out-of-scope prompts; some of the first at least.
        target_error: share of wrong answers among the prompts that are answered, 0 to 1; without it the first of
            `DEFAULT_TARGETS` at which `ENOUGH_ANSWERED` of the data's own prompts are answered, else the last.
        cleaned: whether mislabelled rows have been found already, so that no more of them are looked for.

    Raises:
        UsageError: no rows, or a target outside 0..1.
    """
    evidence = Evidence.of(rows, cleaned=cleaned)
    if target_error is not None:
        return evidence.fit(target_error)
    strict, *looser = (evidence.fit(target) for target in DEFAULT_TARGETS)
    fit = next((one for one in (strict, *looser) if one.coverage >= ENOUGH_ANSWERED), looser[-1])
    if fit is strict:
        return fit
    note = (
        f"a target error of {strict.target_error:.0%} would answer {strict.coverage:.0%} of prompts like these; "
        f"none was asked for, so the limits are fitted to {fit.target_error:.0%}"
    )
    return evolve(fit, notes=(note, *fit.notes))


@frozen
class Evidence:
    """What rows say of limits, whatever the target.

    Attributes:
        n_own: how many of the rows are the data's own prompts.
        limit: the limit on the out-of-scope score.
        noise: see :func:`domain.label_noise.noise_share`.
        own: limits for the data's own prompts below that limit.
        changed: the same for their changed copies.
        near: confidences of the out-of-scope prompts below that limit, the highest first.
        n_outside: how many of the rows are out-of-scope prompts.
    """

    n_own: int
    limit: float
    noise: float
    own: Sequence[_Risk]
    changed: Sequence[_Risk]
    near: Sequence[float]
    n_outside: int

    @classmethod
    def of(cls, rows: Sequence[ScoredRow], *, cleaned: bool = False) -> Self:
        """Return what the rows say; raises `UsageError` when none of them is the data's own."""
        own, changed, outside = rows_by_kind(rows)
        if not own:
            raise UsageError("thresholds need at least one row of the data")
        limit = _scope_limit(own, changed, outside)
        below = [[row for row in part if row.out_of_scope <= limit] for part in (own, changed, outside)]
        near = sorted((row.confidence for row in below[2]), reverse=True)
        noise = 0.0 if cleaned else noise_share([row.confidence for row in own], [row.right for row in own])
        return cls(len(own), limit, noise, _risks(below[0]), _risks(below[1]), near, len(outside))

    def fit(self, target_error: float) -> ThresholdFit:
        """Return limits fitted to this target; see :func:`fit_thresholds`.

        Raises:
            UsageError: a target outside 0..1.
        """
        if not 0.0 <= target_error <= 1.0:
            raise UsageError(f"target-error {target_error} is not between 0 and 1")
        allowed = min(LEFT_OUT_ALLOWANCE * target_error + self.noise, 1.0)
        shown = max(_min_confidence(risks, allowed) if risks else 0.0 for risks in (self.own, self.changed))
        least = max(shown, self._confidence_that_refuses(target_error))
        thresholds = AbstentionThresholds(least if self.own else 1.0, self.limit)
        answered = [risk for risk in self.own if risk.lowest >= thresholds.min_confidence]
        bound, count = (answered[-1].bound, answered[-1].count) if answered else (1.0, 0)
        coverage, reached = count / self.n_own, bound <= allowed
        notes = _notes(target_error, bound, coverage, reached, self.noise, allowed)
        return ThresholdFit(thresholds, target_error, bound, coverage, reached, notes)

    def _confidence_that_refuses(self, target_error: float) -> float:
        """Return a confidence that all but a few out-of-scope prompts stay below."""
        share = max(OUT_OF_SCOPE_ANSWERED, OUT_OF_SCOPE_ALLOWANCE * target_error)
        spare = math.floor(self.n_outside * min(share, 1.0))
        return math.nextafter(self.near[spare], 2.0) if spare < len(self.near) else 0.0


def rows_by_kind(rows: Sequence[ScoredRow]) -> tuple[list[ScoredRow], list[ScoredRow], list[ScoredRow]]:
    """Return the data's own prompts, their changed copies, and out-of-scope prompts."""
    return (
        [row for row in rows if row.in_scope and not row.changed],
        [row for row in rows if row.in_scope and row.changed],
        [row for row in rows if not row.in_scope],
    )


def _scope_limit(*parts: Sequence[ScoredRow]) -> float:
    own, changed, outside = ([row.out_of_scope for row in part] for part in parts)
    own_weights, changed_weights, _ = ([row.weight for row in part] for part in parts)
    strict = fit_max_out_of_scope(own, IN_SCOPE_REFUSED, own_weights)
    if changed:
        strict = max(strict, fit_max_out_of_scope(changed, CHANGED_REFUSED, changed_weights))
    if not outside:
        return strict
    refused = sorted(outside)[len(outside) - math.ceil(REFUSED_BY_SCORE * len(outside))]
    enough = math.nextafter(refused, -math.inf)
    return max(min(strict, max(own)), separating_limit([*own, *changed], outside), enough)


def _notes(
    target: float, bound: float, coverage: float, reached: bool, noise: float, allowed: float
) -> tuple[str, ...]:
    notes = []
    if noise:
        notes.append(
            f"warning: at least {noise:.0%} of the rows contradict a router that has not seen them even where it is "
            f"surest: look for wrong labels; the limits allow {allowed:.1%} of errors by these labels"
        )
    if not reached:
        notes.append(
            f"target error {target:.2%} cannot be shown with these prompts: with {coverage:.0%} of them answered, "
            f"the error rate may be up to {bound:.2%} (more prompts help)"
        )
    return tuple(notes)
