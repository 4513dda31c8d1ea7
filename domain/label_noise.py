"""Labels that rows contradict: whether there are any, which rows have one, and which two labels are mixed up."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from statistics import fmean
from typing import Final

from domain.reliability import error_bound

NOISE_SHARE: Final = 1 / 3
"""Where rows contradict the router among this share of the surest ones, their labels are taken for noisy."""

NOISE_CERTAINTY: Final = 0.95
"""How certain it must be that labels are wrong: in few rows some errors among the surest show little."""

LEAST_NOISE: Final = 0.04
"""A smaller share is not noise. It does not depend on the target: a looser one never refuses more."""

MOST_MISLABELLED: Final = 1 / 3
"""With more of a label's rows contradicted, adapters overlap: then no row is taken for mislabelled."""


CONFUSED: Final = 0.15
"""Two labels are mixed up when it is certain that more than this share of their rows is taken for the other's."""

FEWEST: Final = 8
"""Fewer rows of two labels show nothing."""


def noise_share(confidences: Sequence[float], right: Sequence[bool]) -> float:
    """Return how many of the surest rows contradict the router for certain; 0 below `LEAST_NOISE`.

    Args:
        confidences: of a router that has not seen the rows, 0 to 1.
        right: whether each row's label is the one that the router gives.
    """
    ranked = sorted(range(len(right)), key=lambda row: -confidences[row])
    surest = ranked[: round(len(right) * NOISE_SHARE)]
    agree = sum(right[row] for row in surest)
    share = 1.0 - error_bound(agree, len(surest), NOISE_CERTAINTY) if agree < len(surest) else 0.0
    return share if share > LEAST_NOISE else 0.0


def mislabelled(logits: Sequence[Sequence[float]], labels: Sequence[int]) -> dict[int, float]:
    """Return the positions of the rows that most likely have a wrong label; none unless labels are noisy for certain.

    Confident learning (Northcutt, Jiang and Chuang 2021): a row's label is wrong where another label is at least as
    probable as it is, on average, for the rows that have it. Rows that a router merely confuses are among them. Wrong
    labels are as frequent where a router is sure as where it is not. So what there are more of them, among less sure
    rows, than among the surest third are errors of the router: with each position comes the chance of that, 0 to 1.

    Args:
        logits: of heads that have not seen the rows, one sequence per row.
        labels: the rows' labels.
    """
    shares = [_softmax(row) for row in logits]
    best = [max(range(len(row)), key=row.__getitem__) for row in shares]
    right = [picked == label for picked, label in zip(best, labels, strict=True)]
    if not noise_share([max(row) for row in shares], right):
        return {}
    usual = {
        label: fmean(row[label] for row, own in zip(shares, labels, strict=True) if own == label)
        for label in set(labels)
    }
    found = {
        row
        for row, (picked, label) in enumerate(zip(best, labels, strict=True))
        if picked != label and shares[row][picked] >= usual.get(picked, 1.0)
    }
    lost, there = Counter(labels[row] for row in found), Counter(labels)
    if any(lost[label] > MOST_MISLABELLED * there[label] for label in lost):
        return {}
    ranked = sorted(range(len(labels)), key=lambda row: -max(shares[row]))
    third = round(len(labels) * NOISE_SHARE)
    parts = ranked[:third], ranked[third : 2 * third], ranked[2 * third :]
    noise = len(found.intersection(parts[0])) / third
    chances: dict[int, float] = {}
    for part in parts:
        contradicted = found.intersection(part)
        for row in contradicted:
            chances[row] = max(1.0 - noise * len(part) / len(contradicted), 0.0)
    return chances


def confused_labels(best: Sequence[int], labels: Sequence[int]) -> dict[tuple[int, int], tuple[int, int]]:
    """Return pairs of labels that are mixed up, each with how many of how many rows were taken for the other's.

    Args:
        best: the label that a router that has not seen the row gives.
        labels: the rows' labels.
    """
    there = Counter(labels)
    swapped = Counter(tuple(sorted(pair)) for pair in zip(best, labels, strict=True) if pair[0] != pair[1])
    found = {}
    for (one, other), count in swapped.most_common():
        rows = there[one] + there[other]
        if rows >= FEWEST and 1.0 - error_bound(rows - count, rows, NOISE_CERTAINTY) > CONFUSED:
            found[one, other] = (count, rows)
    return found


def _softmax(row: Sequence[float]) -> list[float]:
    top = max(row)
    powers = [math.exp(value - top) for value in row]
    total = sum(powers)
    return [power / total for power in powers]
