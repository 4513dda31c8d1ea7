"""Folds of rows to leave out, such that a left-out row does not meet its own twin."""

from __future__ import annotations

import itertools
import random
import re
from collections import defaultdict
from collections.abc import Sequence
from typing import Final

ALIKE: Final = 0.5
"""Two texts are near-duplicates when their sets of words and pairs of words overlap by more than this (Jaccard)."""

LARGEST_CLUSTER: Final = 0.4
"""A cluster with more than this share of a label's rows is divided: otherwise the label would be left out whole."""

MOST_COMPARED: Final = 1000
"""Of a label with more rows only so many are compared with each other."""

_DIGIT = re.compile(r"\d")
_WORD = re.compile(r"\w+")


def near_duplicate_folds(texts: Sequence[str], labels: Sequence[int], n_folds: int, seed: int) -> tuple[int, ...]:
    """Return the fold of each text, 0 to `n_folds` - 1.

    Every label is spread over the folds as evenly as its clusters of near-duplicates allow, which stay together:
    with training data that a script made, random folds would ask about rows whose twins are known, and limits fitted
    to the answers would refuse real people. Digits count as equal.
    """
    folds = [0] * len(texts)
    for label in sorted(set(labels)):
        rows = [row for row, each in enumerate(labels) if each == label]
        random.Random(f"{seed}/folds/{label}").shuffle(rows)
        loads = [0] * n_folds
        for cluster in sorted(_clusters(rows, texts), key=len, reverse=True):
            least = loads.index(min(loads))
            loads[least] += len(cluster)
            for row in cluster:
                folds[row] = least
    return tuple(folds)


def _clusters(rows: Sequence[int], texts: Sequence[str]) -> list[list[int]]:
    """Return the rows in clusters, each row alike to some other of its cluster (single linkage)."""
    compared = rows[:MOST_COMPARED]
    grams = {row: _grams(texts[row]) for row in compared}
    parents = {row: row for row in rows}

    def root(row: int) -> int:
        while parents[row] != row:
            parents[row] = row = parents[parents[row]]
        return row

    for place, row in enumerate(compared):
        for other in compared[:place]:
            if _alike(grams[row], grams[other]):
                parents[root(row)] = root(other)
    found: dict[int, list[int]] = defaultdict(list)
    for row in rows:
        found[root(row)].append(row)
    limit = max(LARGEST_CLUSTER * len(rows), 1)
    return [
        part
        for cluster in found.values()
        for part in ([cluster] if len(cluster) <= limit else [[x] for x in cluster])
    ]


def _grams(text: str) -> frozenset[str]:
    words = _WORD.findall(_DIGIT.sub("0", text.lower()))
    return frozenset((*words, *(f"{first} {second}" for first, second in itertools.pairwise(words))))


def _alike(left: frozenset[str], right: frozenset[str]) -> bool:
    if min(len(left), len(right)) <= ALIKE * max(len(left), len(right)):
        return False
    shared = len(left & right)
    return shared > ALIKE * (len(left) + len(right) - shared)
