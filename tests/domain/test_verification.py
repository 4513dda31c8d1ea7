"""The checks of a routing data set, each at the edge of what it allows."""

from __future__ import annotations

import pytest

from domain.labels import LabelMap
from domain.samples import RoutingSample
from domain.split import Split
from domain.verification import Check, Outcome, check_balance, passed_unless

LABELS = LabelMap(("red", "green"))


def balance(red: int, green: int, split: Split = Split.TRAIN) -> Check:
    counts = enumerate((("red", red), ("green", green)))
    rows = [
        RoutingSample(f"{name} {n}", label, name, str(n)) for label, (name, count) in counts for n in range(count)
    ]
    return check_balance({split: rows}, LABELS)


@pytest.mark.parametrize(("least", "most"), [(0, 1), (1, 2), (9, 10), (10, 12), (100, 111)])
@pytest.mark.parametrize("split", Split)
def test_counts_may_differ_by_a_tenth_and_one_row_and_no_more(least, most, split):
    for red, green in ((least, most), (most, least)):
        found = balance(red, green, split)
        assert (found.outcome, found.detail) == (Outcome.PASSED, f"{split} {red}/{green}")
    for red, green in ((least, most + 1), (most + 1, least)):
        found = balance(red, green, split)
        assert (found.outcome, found.detail) == (Outcome.FAILED, f"{split}: {red}/{green} rows for red, green")


def test_the_first_three_faults_are_told_and_the_others_counted():
    assert passed_unless("x", [], "all well") == Check("x", Outcome.PASSED, "all well")
    assert passed_unless("x", ["a", "b", "c"], "") == Check("x", Outcome.FAILED, "a; b; c")
    assert passed_unless("x", ["a", "b", "c", "d"], "").detail == "a; b; c; and 1 more"
    assert passed_unless("x", ["a", "b", "c", "d", "e"], "") == Check("x", Outcome.FAILED, "a; b; c; and 2 more")
