"""The port that finds texts which look alike."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from attrs import frozen


@frozen
class SimilarPair:
    """Two texts of different groups that look alike.

    Attributes:
        first: index of the one.
        second: index of the other; greater than `first`.
        similarity: 0 (nothing in common) to 1 (the same text, case and white space aside).
    """

    first: int
    second: int
    similarity: float


class TextSimilarity(Protocol):
    """Compares texts by their spelling.

    The contract: similarity is symmetric, lies in 0..1, and is 1 for texts that are equal but for case and
    white space at the ends; only pairs of different groups are returned, most similar first, each once.
    """

    def similar_pairs(
        self, texts: Sequence[str], groups: Sequence[int], *, threshold: float, limit: int
    ) -> tuple[list[SimilarPair], int]:
        """Find pairs across groups.

        Args:
            texts: the texts.
            groups: each text's group.
            threshold: least similarity, above 0.
            limit: most pairs to return.

        Returns:
            The most similar pairs, and how many there are at or above the threshold.
        """
        ...
