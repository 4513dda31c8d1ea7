"""Letters and words of a text as numbers, beside the base model's hidden states.

Hidden states know what a word means; letters forgive typing errors and keep rare names apart. A text is the TF-IDF of
its n-grams of 2 to 5 letters within words, and of its words and pairs of words; both blocks have the same length.
N-grams are known by a hash of 31 bits. Those that no training text has do not count at all: not even in the length.
"""

from __future__ import annotations

import itertools
import math
import re
import zlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Any, Final, Self

import numpy as np
from attrs import frozen
from numpy.typing import NDArray

_WORD = re.compile(r"\w+")
_LENGTHS = range(2, 6)
_WORD_BLOCK: Final = 1 << 31
"""Identities from here on are words and pairs of words; below are letters."""


@frozen(eq=False)
class Lexicon:
    """The n-grams of a set of texts.

    Attributes:
        grams: their identities, ascending, (V,) uint32.
        idf: inverse document frequency of each, smoothed, (V,) float32.
    """

    grams: NDArray[np.uint32]
    idf: NDArray[np.float32]

    @classmethod
    def of(cls, texts: Sequence[str]) -> Self:
        """Return the lexicon of these texts; empty when they have no letters."""
        counts = Counter(gram for text in texts for gram in _grams(text)[0].tolist())
        grams = np.sort(np.fromiter(counts, np.uint32, len(counts)))
        found = np.array([counts[gram] for gram in grams.tolist()], np.float64)
        return cls(grams, (np.log((1 + len(texts)) / (1 + found)) + 1).astype(np.float32))

    def row(self, text: str) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """Return the columns and values of a text's known n-grams; a text with both blocks has length 1."""
        grams, weights = _grams(text)
        if len(self.grams) == 0 or len(grams) == 0:
            return np.zeros(0, np.int64), np.zeros(0, np.float32)
        places = np.minimum(np.searchsorted(self.grams, grams), len(self.grams) - 1)
        known = self.grams[places] == grams
        columns, values = places[known], weights[known] * self.idf[places[known]]
        for block in (grams[known] < _WORD_BLOCK, grams[known] >= _WORD_BLOCK):
            length = math.sqrt(float((values[block] ** 2).sum()) * 2)
            values[block] /= length or 1.0
        return columns, values

    def matrix(self, texts: Sequence[str]) -> Any:
        """Return the rows of these texts as a scipy sparse matrix, (n, V)."""
        from scipy.sparse import csr_matrix

        rows = [self.row(text) for text in texts]
        starts = np.cumsum([0, *(len(columns) for columns, _ in rows)])
        empty = [(np.zeros(0, np.int64), np.zeros(0, np.float32))]
        columns, values = (np.concatenate(part) for part in zip(*(rows or empty), strict=True))
        return csr_matrix((values, columns, starts), shape=(len(texts), len(self.grams)))

    def apply(self, texts: Sequence[str], weights: Any) -> NDArray[np.float32]:
        """Return rows (n, V) times weights (V, K) without a sparse matrix: (n, K)."""
        found = np.zeros((len(texts), weights.shape[1]), np.float32)
        for index, text in enumerate(texts):
            columns, values = self.row(text)
            found[index] = values @ weights[columns].astype(np.float32)
        return found

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, Any]) -> Self:
        """Return the lexicon in a router's tensors."""
        return cls(np.asarray(tensors["head.lexicon"], np.uint32), np.asarray(tensors["head.idf"], np.float32))


@lru_cache(maxsize=20_000)
def _grams(text: str) -> tuple[NDArray[np.uint32], NDArray[np.float32]]:
    """Return the identities of a text's n-grams, and 1 + log of how often each is in it."""
    words = _WORD.findall(text.lower())
    letters = (f" {word} "[at : at + n] for word in words for n in _LENGTHS for at in range(len(word) + 3 - n))
    pairs = (f"{first} {second}" for first, second in itertools.pairwise(words))
    counts = Counter(_identities(letters, 0))
    counts.update(_identities((*words, *pairs), _WORD_BLOCK))
    weights = np.asarray(1.0 + np.log(np.fromiter(counts.values(), np.float32, len(counts))), np.float32)
    return np.fromiter(counts, np.uint32, len(counts)), weights


def _identities(grams: Iterable[str], block: int) -> Iterable[int]:
    return (zlib.crc32(gram.encode("utf-8", "surrogatepass")) >> 1 | block for gram in grams)
