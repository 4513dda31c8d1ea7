"""The bank: a compact memory of known prompts, for the out-of-scope score and for showing nearest prompts.

A row is a prompt's standardised features, moved by an offset, projected on their main directions and divided by
their whole length. The offset gives back most of what centring took away: the direction in which all known prompts
lie, and in which prompts of other kinds do not. The out-of-scope score of a prompt, the higher the stranger, is

    density_weight * d - s - evidence_weight * e + out_of_scope_weight * o

where s is the mean cosine similarity to its k nearest rows (Sun et al. 2022, "Out-of-Distribution Detection with
Deep Nearest Neighbors"); d the mean similarity of those rows to their own k nearest rows, so that a prompt in a
sparse region is not called strange for being as far from its neighbours as they are from theirs (after Breunig et
al. 2000, "LOF"); e the head's evidence, log-sum-exp of its calibrated logits (Liu et al. 2020, "Energy-based
Out-of-distribution Detection"); and o the similarity to the nearest out-of-scope prompt.

A piece of a prompt is background unless it is more similar to some known prompt, by a margin, than to every
background phrase. It is company where it resembles background more than almost all prompts of a typical label do.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import Any, Final, Self

import numpy as np
from attrs import frozen
from numpy.typing import NDArray

from adapters.router.router_heads import Array
from domain.errors import RouterFileError

SHAPES: Final[Mapping[str, tuple[str, ...]]] = {
    "bank.offset": ("F",),
    "bank.projection": ("D", "F"),
    "bank.features": ("N", "D"),
    "bank.density": ("N",),
    "bank.labels": ("N",),
    "bank.background": ("B", "D"),
    "bank.out_of_scope": ("M", "D"),
    "bank.score": ("5",),
}
"""Tensors of a bank: F features, D directions, N rows, B background phrases and M out-of-scope prompts (0 or
more each); the score's are k, density weight, evidence weight, out-of-scope weight, background margin."""


LEAST_SIMILAR: Final = -1.0

ORDINARY: Final = 0.95
"""Share of a typical label's rows that are no more similar to background than company is."""


@frozen(eq=False, slots=False)
class PromptBank:
    """A bank ready for use, in float32 however it is kept.

    Attributes:
        offset: what is added to standardised features, (F,).
        projection: main directions of the moved features, each of length 1, (D, F).
        features: the rows, of length 1 or less, (N, D).
        density: mean similarity of each row to its own nearest rows, (N,).
        labels: label of each row, (N,).
        background: phrases that ask for nothing, as rows are kept, (B, D).
        out_of_scope: prompts that belong to no label, as rows are kept, (M, D).
        neighbours: k, 1 or more.
        density_weight: weight of the neighbours' own density in the score.
        evidence_weight: weight of the head's evidence in the score.
        out_of_scope_weight: weight of the similarity to the nearest out-of-scope prompt in the score.
        background_margin: how much more similar than to background a piece must be to a known prompt.
    """

    offset: Array
    projection: Array
    features: Array
    density: Array
    labels: NDArray[np.int64]
    background: Array
    out_of_scope: Array
    neighbours: int
    density_weight: float
    evidence_weight: float
    out_of_scope_weight: float
    background_margin: float

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, Any]) -> Self:
        """Return the bank in a router's tensors."""
        neighbours, *weights = np.asarray(tensors["bank.score"], np.float64).tolist()
        offset, projection, features, density, background, out_of_scope = (
            np.asarray(tensors[f"bank.{name}"], np.float32)
            for name in ("offset", "projection", "features", "density", "background", "out_of_scope")
        )
        labels = np.asarray(tensors["bank.labels"], np.int64)
        return cls(offset, projection, features, density, labels, background, out_of_scope, int(neighbours), *weights)

    def tensors(self) -> dict[str, NDArray[Any]]:
        """Return the bank as a router's tensors; what is large, in half precision."""
        weights = (self.density_weight, self.evidence_weight, self.out_of_scope_weight, self.background_margin)
        return {
            "bank.offset": self.offset.astype(np.float32),
            "bank.projection": self.projection.astype(np.float16),
            "bank.features": self.features.astype(np.float16),
            "bank.density": self.density.astype(np.float32),
            "bank.labels": self.labels,
            "bank.background": self.background.astype(np.float16),
            "bank.out_of_scope": self.out_of_scope.astype(np.float16),
            "bank.score": np.array([self.neighbours, *weights], np.float32),
        }

    def embed(self, standardised: Array) -> Array:
        """Return the bank vectors (n, D), of length 1 or less, of standardised features (n, F)."""
        return embed(self.offset, self.projection, standardised)

    def similarities(self, vectors: Array) -> Array:
        """Return the cosine similarity of bank vectors (n, D) to each row, (n, N)."""
        return np.asarray(vectors @ self.features.T)

    @cached_property
    def like_background(self) -> NDArray[np.bool_]:
        """Which rows are more similar to background than to other rows, (N,): thanks, where a route owns them.

        Such a row's adapter answers it, but beside a request it is no more than company.
        """
        nearest = (self.features @ self.background.T).max(axis=1, initial=LEAST_SIMILAR)
        return np.asarray(nearest >= self.density + self.background_margin)

    @cached_property
    def company_level(self) -> float:
        """Similarity to background above which a piece is company where another piece of its prompt is below.

        The median over labels, since one of them may own greetings and thanks: its prompts are requests when they
        stand alone, and company beside a request for another.
        """
        nearest = (self.features @ self.background.T).max(axis=1, initial=LEAST_SIMILAR)
        found = [np.quantile(nearest[self.labels == label], ORDINARY) for label in np.unique(self.labels)]
        return float(np.median(found))

    def read(self, vectors: Array, without: Without | None = None) -> Readings:
        """Return what the bank says of bank vectors (n, D).

        Args:
            vectors: what to look at.
            without: what the bank is to forget for this once.
        """
        similarity = self.similarities(vectors)
        background, out_of_scope = vectors @ self.background.T, vectors @ self.out_of_scope.T
        if without is not None:
            similarity[:, without.rows] = LEAST_SIMILAR
            background[:, without.background] = LEAST_SIMILAR
            out_of_scope[:, without.out_of_scope] = LEAST_SIMILAR
        rows = top(similarity, self.neighbours)  # (n, k)
        near = np.take_along_axis(similarity, rows, axis=1).mean(axis=1)
        strange = np.maximum(out_of_scope.max(axis=1, initial=LEAST_SIMILAR), 0.0)
        score = self.density_weight * self.density[rows].mean(axis=1) - near + self.out_of_scope_weight * strange
        like_background = self.like_background
        ground = np.maximum(
            background.max(axis=1, initial=LEAST_SIMILAR),
            similarity.max(axis=1, initial=LEAST_SIMILAR, where=like_background),
        )
        own = similarity.max(axis=1, initial=LEAST_SIMILAR, where=~like_background) - ground - self.background_margin
        company = background.max(axis=1, initial=LEAST_SIMILAR) > self.company_level
        return Readings(similarity, np.asarray(score, np.float64), np.asarray(own, np.float64), company)

    def score(self, readings: Readings, evidence: NDArray[Any]) -> NDArray[np.float64]:
        """Return each piece's out-of-scope score, (n,), given log-sum-exp of its calibrated logits, (n,)."""
        return np.asarray(readings.strangeness - self.evidence_weight * evidence)


@frozen(eq=False)
class Without:
    """What a bank is to forget for once.

    Attributes:
        rows: which rows, (N,).
        background: which background phrases, (B,).
        out_of_scope: which out-of-scope prompts, (M,).
    """

    rows: NDArray[np.bool_]
    background: NDArray[np.bool_]
    out_of_scope: NDArray[np.bool_]


@frozen(eq=False)
class Readings:
    """What a bank says of pieces.

    Attributes:
        similarity: cosine similarity to each row, (n, N).
        strangeness: out-of-scope score without the head's evidence, (n,).
        own: by how much each says more than background does, (n,); negative for background.
        company: whether each is company beside a piece that is not, (n,).
    """

    similarity: Array
    strangeness: NDArray[np.float64]
    own: NDArray[np.float64]
    company: NDArray[np.bool_]


def embed(offset: Array, projection: Array, standardised: Array) -> Array:
    """Return bank vectors (n, D) of standardised features (n, F).

    They are divided by the length of the whole moved features: what lies outside the main directions makes a
    prompt less similar to every row, as it should, since no row has anything there.
    """
    moved = standardised + offset
    lengths = np.linalg.norm(moved, axis=1, keepdims=True)
    return np.asarray(moved @ projection.T / np.maximum(lengths, 1e-12), np.float32)


def top(similarity: Array, count: int) -> NDArray[np.int64]:
    """Return the columns of the `count` highest values of each row, in no particular order."""
    count = min(count, similarity.shape[1])
    return np.argpartition(similarity, similarity.shape[1] - count, axis=1)[:, -count:]


def nearest_rows(similarity: Array) -> NDArray[np.int64]:
    """Return the bank rows for each prompt, most similar first, ties to the lower row."""
    return np.argsort(-similarity, axis=1, kind="stable")


def check_bank_tensors(tensors: Mapping[str, Any], *, n_features: int, n_labels: int, n_texts: int) -> None:
    """Raise RouterFileError unless the bank's tensors are all there, agree with each other and are usable."""
    names = {name for name in tensors if name.startswith("bank.")}
    if missing := sorted(set(SHAPES) - names):
        raise RouterFileError(f"the bank lacks the tensor {missing[0]}")
    if extra := sorted(names - set(SHAPES)):
        raise RouterFileError(f"the bank has the unexpected tensor {extra[0]}")
    sizes = {"F": n_features, "N": n_texts, "5": 5}
    for name, symbols in SHAPES.items():
        shape = tuple(tensors[name].shape)
        if len(shape) == len(symbols):
            for symbol, size in zip(symbols, shape, strict=True):
                sizes.setdefault(symbol, size)  # D, B and M are what the first tensor that has them says
        expected = tuple(sizes.get(symbol, 0) for symbol in symbols)
        if shape != expected or 0 in (sizes["N"], sizes.get("D")):
            raise RouterFileError(f"tensor {name} has shape {list(shape)}, expected {list(expected)}")
        if not np.all(np.isfinite(np.asarray(tensors[name]))):
            raise RouterFileError(f"tensor {name} has values that are not finite")
    labels, neighbours = np.asarray(tensors["bank.labels"]), float(tensors["bank.score"][0])
    if labels.dtype != np.int64 or labels.min() < 0 or labels.max() >= n_labels:
        raise RouterFileError(f"tensor bank.labels has values that are not labels in 0..{n_labels - 1}")
    if neighbours < 1 or neighbours != int(neighbours):
        raise RouterFileError(f"tensor bank.score asks for {neighbours} neighbours, expected a whole number from 1")
