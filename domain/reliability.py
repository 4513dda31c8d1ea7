"""How often answers of a given confidence are right: a smooth curve, and a bound on the share of wrong ones."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import NormalDist
from typing import Final, Self

from attrs import frozen

CERTAINTY: Final = 0.6
"""How certain the bound on the error rate is, unless another certainty is asked for."""

_STEPS: Final = 50
_LEAST: Final = 1e-9
"""Confidences are kept so far from 0 and 1, where log-odds are infinite."""


@frozen
class Reliability:
    """The chance that an answer is right, by its confidence.

    A logistic curve on the log-odds of the confidence, fitted to all answers at once. Counting errors above a limit
    is noisy where they are few: one confident error moves such a limit far.

    Attributes:
        slope: 0 or more, so that a higher confidence never makes an answer less likely to be right.
        intercept: log-odds at a confidence of one half.
    """

    slope: float
    intercept: float

    def chance(self, confidence: float) -> float:
        """Return the chance that an answer of this confidence is right, 0 to 1."""
        return _sigmoid(self.slope * _log_odds(confidence) + self.intercept)

    @classmethod
    def of(cls, confidences: Sequence[float], right: Sequence[bool], weights: Sequence[float] = ()) -> Self:
        """Return the curve that fits these answers best.

        Platt 1999, "Probabilistic Outputs for Support Vector Machines", with his smoothed targets: n answers, all
        right, do not show a chance of 1 but of (n + 1) / (n + 2). Newton's method with halved steps, as Lin, Lin and
        Weng 2007 advise in "A Note on Platt's Probabilistic Outputs".

        Args:
            confidences: of the answers, 0 to 1.
            right: whether each answer is right.
            weights: how much each counts; all alike when there are none.
        """
        n_right = sum(right)
        high, low = (n_right + 1) / (n_right + 2), 1 / (len(right) - n_right + 2)
        counted = weights or [1.0] * len(right)
        points = [
            (_log_odds(at), high if hit else low, weight)
            for at, hit, weight in zip(confidences, right, counted, strict=True)
        ]
        mean = sum(target * weight for _, target, weight in points) / sum(counted)
        slope, intercept = 0.0, _log_odds(mean)
        constant = cls(0.0, intercept)
        loss = _loss(points, slope, intercept)
        for _ in range(_STEPS):
            by_slope, by_intercept = _newton_step(points, slope, intercept)
            share = 1.0
            while share > 1e-6:
                tried = slope + share * by_slope, intercept + share * by_intercept
                if (reached := _loss(points, *tried)) < loss:
                    break
                share /= 2
            else:
                break
            gained, loss = loss - reached, reached
            slope, intercept = tried
            if gained < 1e-9 * len(points):
                break
        return cls(slope, intercept) if slope > 0 else constant


def error_bound(wrong: float, answered: float, certainty: float = CERTAINTY) -> float:
    """Return the error rate that is exceeded with a probability of about 1 - `certainty`.

    Wilson's one-sided score bound (1927), which also takes expected numbers of errors and of answers.
    """
    if answered == 0:
        return 1.0
    z = NormalDist().inv_cdf(certainty)
    rate, z2 = min(wrong / answered, 1.0), z * z
    spread = z * math.sqrt(rate * (1.0 - rate) / answered + z2 / (4 * answered**2))
    return min((rate + z2 / (2 * answered) + spread) / (1.0 + z2 / answered), 1.0)


def _log_odds(confidence: float) -> float:
    kept = min(max(confidence, _LEAST), 1.0 - _LEAST)
    return math.log(kept / (1.0 - kept))


def _sigmoid(value: float) -> float:
    return 1.0 / (1.0 + math.exp(-value)) if value >= 0 else 1.0 - 1.0 / (1.0 + math.exp(value))


_Point = tuple[float, float, float]
"""Log-odds of the confidence, target, weight."""


def _loss(points: Sequence[_Point], slope: float, intercept: float) -> float:
    """Return the summed cross entropy: weight (log(1 + e^z) - t z)."""
    total = 0.0
    for at, target, weight in points:
        value = slope * at + intercept
        total += weight * (max(value, 0.0) + math.log1p(math.exp(-abs(value))) - target * value)
    return total


def _newton_step(points: Sequence[_Point], slope: float, intercept: float) -> tuple[float, float]:
    """Return what Newton's method adds to slope and intercept."""
    g0 = g1 = 0.0
    h00 = h01 = h11 = 1e-12
    for at, target, counted in points:
        chance = _sigmoid(slope * at + intercept)
        excess, weight = counted * (chance - target), counted * chance * (1.0 - chance)
        g0 += excess
        g1 += excess * at
        h00 += weight
        h01 += weight * at
        h11 += weight * at * at
    determinant = h00 * h11 - h01 * h01
    if determinant <= 1e-12 * h00 * h11:  # all confidences are equal: only the intercept is free
        return 0.0, -g0 / h00
    return -(h00 * g1 - h01 * g0) / determinant, -(h11 * g0 - h01 * g1) / determinant
