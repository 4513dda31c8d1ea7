from __future__ import annotations

import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.reliability import CERTAINTY, Reliability, error_bound

confidences = st.floats(0, 1)


def answers(slope: float, intercept: float, count: int) -> tuple[list[float], list[bool]]:
    rng = random.Random(7)
    odds = [rng.uniform(-3, 6) for _ in range(count)]
    right = [rng.random() < 1 / (1 + math.exp(-(slope * at + intercept))) for at in odds]
    return [1 / (1 + math.exp(-at)) for at in odds], right


def test_the_curve_behind_answers_is_found():
    curve = Reliability.of(*answers(0.7, -0.4, 20_000))
    assert curve.slope == pytest.approx(0.7, abs=0.05)
    assert curve.intercept == pytest.approx(-0.4, abs=0.08)


def test_answers_that_are_all_right_leave_a_doubt_that_shrinks_with_their_number():
    doubts = [1 - Reliability.of([0.9] * n, [True] * n).chance(0.9) for n in (1, 10, 100)]
    assert doubts == pytest.approx([1 / 3, 1 / 12, 1 / 102])


@given(st.lists(st.tuples(confidences, st.booleans()), min_size=1, max_size=30), confidences, confidences)
def test_a_higher_confidence_never_has_a_lower_chance(found, one, other):
    curve = Reliability.of([at for at, _ in found], [right for _, right in found])
    assert curve.slope >= 0
    assert curve.chance(min(one, other)) <= curve.chance(max(one, other))
    assert 0 <= curve.chance(one) <= 1


def test_confidence_that_says_nothing_gives_everybody_the_same_chance():
    curve = Reliability.of([0.6, 0.7, 0.8, 0.9], [True, True, False, False])
    assert curve.slope == 0
    assert curve.chance(0.6) == curve.chance(0.99) == pytest.approx(0.5)


def test_the_bound_is_wilsons():
    rate, n, z = 0.05, 200, 0.253347
    expected = (rate + z**2 / (2 * n) + z * math.sqrt(rate * (1 - rate) / n + z**2 / (4 * n**2))) / (1 + z**2 / n)
    assert error_bound(10, 200) == pytest.approx(expected)
    assert error_bound(0, 0) == error_bound(3, 3) == 1.0


def test_the_bound_is_exceeded_as_seldom_as_it_says():
    rng = random.Random(1)
    wrong = [sum(rng.random() < 0.1 for _ in range(200)) for _ in range(2000)]
    assert sum(error_bound(each, 200) >= 0.1 for each in wrong) / 2000 == pytest.approx(CERTAINTY, abs=0.06)


def test_weights_count_as_repeated_answers_do():
    at, right = [0.6, 0.7, 0.8, 0.9] * 50, [True, False, True, True] * 50
    twice = Reliability.of(at + at, right + right)
    weighted = Reliability.of(at + at[:1] * 2, right + right[:1] * 2, [*[2.0] * 200, 0.0, 0.0])
    assert (weighted.slope, weighted.intercept) == pytest.approx((twice.slope, twice.intercept), abs=0.05)
    more_wrong = Reliability.of(at, right, [5.0 if not hit else 1.0 for hit in right])
    assert more_wrong.chance(0.7) < twice.chance(0.7) - 0.1
