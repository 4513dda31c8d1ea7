from __future__ import annotations

import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import minimize_scalar

from domain.calibration import TEMPERATURE_RANGE, fit_temperature
from domain.errors import UsageError

logit_rows = st.lists(st.tuples(st.tuples(*[st.floats(-20, 20)] * 3), st.integers(0, 2)), min_size=1, max_size=30)


def smoothed_loss(logits, labels, temperature):
    """The loss that the fit minimises, written from its description."""
    n, c = len(labels), len(logits[0])
    total = 0.0
    for row, label in zip(logits, labels, strict=True):
        top = max(row)
        log_norm = top / temperature + math.log(sum(math.exp((v - top) / temperature) for v in row))
        for k, value in enumerate(row):
            target = 1 - 0.25 / (n + 1) if k == label else 0.25 / (n + 1) / (c - 1)
            total -= target * (value / temperature - log_norm)
    return total


@given(logit_rows)
def test_the_temperature_minimises_the_smoothed_loss(pairs):
    logits, labels = [list(row) for row, _ in pairs], [label for _, label in pairs]
    found = fit_temperature(logits, labels)
    low, high = (math.log(end) for end in TEMPERATURE_RANGE)
    best = minimize_scalar(lambda t: smoothed_loss(logits, labels, math.exp(t)), bounds=(low, high), method="bounded")
    reference = min(
        best.fun, smoothed_loss(logits, labels, math.exp(low)), smoothed_loss(logits, labels, math.exp(high))
    )
    assert smoothed_loss(logits, labels, found) <= reference + 1e-4 * (1 + abs(reference))


def test_a_scale_on_the_logits_is_taken_out_again():
    rng = random.Random(3)
    logits, labels = [], []
    for _ in range(400):
        row = [rng.gauss(0, 2) for _ in range(4)]
        weights = [math.exp(v) for v in row]
        logits.append([3 * v for v in row])  # three times too confident
        labels.append(rng.choices(range(4), weights)[0])
    assert fit_temperature(logits, labels) == pytest.approx(3.0, rel=0.15)


def test_a_few_right_rows_do_not_justify_certainty():
    for rows in (5, 50, 500):
        temperature = fit_temperature([[4.0, 0.0, 0.0]] * rows, [0] * rows)
        confidence = 1 / (1 + 2 * math.exp(-4 / temperature))
        assert confidence == pytest.approx(1 - 0.25 / (rows + 1), abs=1e-4)


@pytest.mark.parametrize(("logits", "labels"), [([], []), ([[1.0, 2.0]], []), ([[math.nan, 1.0]], [0])])
def test_what_cannot_be_fitted_is_refused(logits, labels):
    with pytest.raises(UsageError):
        fit_temperature(logits, labels)


def test_rows_count_by_their_weight():
    logits, labels = [[3.0, 0.0]] * 200, [0] * 100 + [1] * 100
    weighted = fit_temperature(logits, labels, [9.0] * 100 + [1.0] * 100)
    assert weighted == pytest.approx(fit_temperature(logits, [0] * 180 + [1] * 20), rel=0.01)
