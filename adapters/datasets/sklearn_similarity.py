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
        for one in np.unique(group)[:-1]:
            mine, others = np.flatnonzero(group == one), np.flatnonzero(group > one)
            theirs = vectors[others].T.tocsr()
            for start in range(0, len(mine), _ROWS_AT_ONCE):
                rows = mine[start : start + _ROWS_AT_ONCE]
                cosines = (vectors[rows] @ theirs).tocoo()
                near = cosines.data >= threshold - 1e-6  # float32 rounding must not lose equal texts
                pairs = np.stack([rows[cosines.row[near]], others[cosines.col[near]]])
                total += int(near.sum())
                found = zip((-cosines.data[near]).tolist(), *np.sort(pairs, axis=0).tolist(), strict=True)
                best = heapq.nsmallest(limit, [*best, *found])
        return [SimilarPair(one, other, min(-negative, 1.0)) for negative, one, other in best], total
