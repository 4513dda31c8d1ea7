"""Making probabilities mean something: a temperature fitted on rows that the head was not trained on."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final

from domain.errors import UsageError

SMOOTHING: Final = 0.25
"""How many rows' worth of doubt are added when a temperature is fitted."""

TEMPERATURE_RANGE: Final = (0.05, 20.0)
"""Fitted temperatures stay within these limits."""


def fit_temperature(logits: Sequence[Sequence[float]], labels: Sequence[int], weights: Sequence[float] = ()) -> float:
    """Return the temperature under which softmax(logits / T) fits the labels best.

    Guo et al. 2017, "On Calibration of Modern Neural Networks", with targets smoothed in the manner of Platt (1999):
    of n rows, each gives up `SMOOTHING` / (n + 1) of its true label to the others. Without that, rows that are all
    right ask for T = 0, that is for certainty, however few they are. How much is given up was measured: Platt's own
    1 / (n + 2) makes routers with few validation rows too timid.

    Args:
        logits: uncalibrated logits of rows that the head was not trained on, one sequence per row.
        labels: the rows' true labels.
        weights: how much each row counts; all alike when there are none.

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
    counted = weights or [1.0] * len(labels)
    low, high = 1.0 / TEMPERATURE_RANGE[1], 1.0 / TEMPERATURE_RANGE[0]
    for _ in range(40):
        middle = math.sqrt(low * high)
        if _slope(logits, targets, counted, middle) < 0:
            low = middle
        else:
            high = middle
    return 1.0 / math.sqrt(low * high)


def _slope(
    logits: Sequence[Sequence[float]], targets: Sequence[float], counted: Sequence[float], inverse: float
) -> float:
    """Return the derivative of the summed loss by the inverse temperature."""
    slope = 0.0
    for row, target, count in zip(logits, targets, counted, strict=True):
        top = max(row)
        shares = [math.exp((value - top) * inverse) for value in row]
        mean = sum(share * value for share, value in zip(shares, row, strict=True)) / sum(shares)
        slope += count * (mean - target)
    return slope
