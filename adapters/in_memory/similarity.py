"""Texts that look alike, without a library."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations

from attrs import frozen

from application.ports.similarity import SimilarPair


@frozen
class TrigramSimilarity:
    """A :class:`application.ports.similarity.TextSimilarity`: Dice coefficient of letter trigrams.

    Compares all pairs one by one; meant for tests and small data.
    """

    def similar_pairs(
        self, texts: Sequence[str], groups: Sequence[int], *, threshold: float, limit: int
    ) -> tuple[list[SimilarPair], int]:
        """Compare every text with all texts of other groups; see the port for the contract."""
        pieces = [_trigrams(text) for text in texts]
        pairs = [
            SimilarPair(one, other, _dice(pieces[one], pieces[other]))
            for one, other in combinations(range(len(texts)), 2)
            if groups[one] != groups[other]
        ]
        found = [pair for pair in pairs if pair.similarity >= threshold]
        found.sort(key=lambda pair: (-pair.similarity, pair.first, pair.second))
        return found[:limit], len(found)


def _trigrams(text: str) -> frozenset[str]:
    padded = f"  {text.strip().casefold()}  "
    return frozenset(padded[start : start + 3] for start in range(len(padded) - 2))


def _dice(one: frozenset[str], other: frozenset[str]) -> float:
    return 2 * len(one & other) / (len(one) + len(other))
