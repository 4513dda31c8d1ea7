"""Texts that look alike, by TF-IDF over character n-grams (scikit-learn)."""

from __future__ import annotations

import heapq
from collections.abc import Sequence

import numpy as np
from attrs import frozen
from sklearn.feature_extraction.text import TfidfVectorizer

from application.ports.similarity import SimilarPair

_ROWS_AT_ONCE = 512  # bounds the memory of the products


@frozen
class SklearnSimilarity:
    """A :class:`application.ports.similarity.TextSimilarity`: cosine of TF-IDF vectors of 2- to 4-letter pieces.

    Pieces stay within words, so word order hardly counts while spelling does.
    """

    def similar_pairs(
        self, texts: Sequence[str], groups: Sequence[int], *, threshold: float, limit: int
    ) -> tuple[list[SimilarPair], int]:
        """Compare every text with all texts of other groups; see the port for the contract."""
        cleaned = [text.strip().casefold() for text in texts]
        if len(set(groups)) < 2 or not any(cleaned):
            return [], 0
        vectors = TfidfVectorizer(analyzer="char_wb", ngram_range=(2, 4), dtype=np.float32).fit_transform(cleaned)
        group = np.asarray(groups)
        total = 0
        best: list[tuple[float, int, int]] = []
        for start in range(0, len(texts), _ROWS_AT_ONCE):
            cosines = (vectors[start : start + _ROWS_AT_ONCE] @ vectors.T).tocoo()
            first, second, values = cosines.row + start, cosines.col, cosines.data
            wanted = (first < second) & (group[first] != group[second]) & (values >= threshold - 1e-6)
            total += int(wanted.sum())
            pairs = zip(values[wanted].tolist(), first[wanted].tolist(), second[wanted].tolist(), strict=True)
            best = heapq.nsmallest(limit, [*best, *((-value, one, other) for value, one, other in pairs)])
        return [SimilarPair(one, other, min(-negative, 1.0)) for negative, one, other in best], total
