"""Which part of a routing data set a row belongs to, and how many rows each part gets."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from fractions import Fraction

from domain.errors import UsageError


class Split(StrEnum):
    """The parts of a routing data set; the value is the file's stem."""

    TRAIN = "train"
    VAL = "val"
    EVAL = "eval"


def largest_remainder_split(counts: Sequence[int], train_share: float) -> tuple[int, ...]:
    """Return how many of each adapter's rows go to training; the others go to validation.

    Stratified by the largest-remainder (Hamilton) method over the whole: the total for training is the rounded
    share of all rows (half up), each adapter gets the floor of its own share, and the rows left over go to the
    adapters with the largest remainders, earlier adapters first on ties. So three adapters with one row each
    give 2 + 1 at 0.8, and three with 200 give 160/40 each.

    Args:
        counts: rows per adapter, in label order.
        train_share: share of training rows, 0 to 1.

    Returns:
        Training rows per adapter, each between 0 and its count.

    Raises:
        UsageError: the share is outside 0..1 or a count is negative.
    """
    if not 0.0 <= train_share <= 1.0:
        raise UsageError(f"train/val split {train_share} is not between 0 and 1")
    if any(count < 0 for count in counts):
        raise UsageError(f"negative row count in {list(counts)}")
    share = Fraction(str(train_share))  # 0.8 means 8/10, not the nearest binary fraction
    exact = [share * count for count in counts]
    floors = [int(value) for value in exact]
    total = int(sum(exact) + Fraction(1, 2))
    by_remainder = sorted(range(len(counts)), key=lambda i: (floors[i] - exact[i], i))
    for index in by_remainder[: total - sum(floors)]:
        floors[index] += 1
    return tuple(floors)


def stratified_folds(labels: Sequence[int], folds: int, limit: int) -> list[list[int]]:
    """Return row numbers in folds for cross-validation, each fold with its share of every label.

    The first rows of each label are taken, about `limit` in all, and dealt to the folds in turn. A row that is the
    only one of its label is in no fold: where it were left out, nothing could be known of its label.

    Args:
        labels: the rows' labels.
        folds: number of folds at most; fewer when some label has fewer rows, so that no fold lacks a label. With
            fewer than 2 there are none.
        limit: most rows in all, rounded down to the same number for every label, but one per fold at least.
    """
    rows_of: dict[int, list[int]] = {}
    for row, label in enumerate(labels):
        rows_of.setdefault(label, []).append(row)
    rows_of = {label: rows for label, rows in rows_of.items() if len(rows) > 1}
    if not rows_of:
        return []
    folds = min(folds, *(len(rows) for rows in rows_of.values()))
    if folds < 2:
        return []
    most = max(limit // len(rows_of), folds)
    dealt: list[list[int]] = [[] for _ in range(folds)]
    for rows in rows_of.values():
        for place, row in enumerate(rows[:most]):
            dealt[place % folds].append(row)
    return [sorted(fold) for fold in dealt]
