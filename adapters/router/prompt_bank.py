"""The bank: a compact memory of training prompts, for the out-of-scope score and for showing nearest prompts.

A row is a training prompt's standardised features, projected on their main directions and scaled to length 1.
The out-of-scope score of a prompt, the higher the stranger, is

    density_weight * d - s - confidence_weight * log p

where s is the mean cosine similarity to its k nearest rows (Sun et al. 2022, "Out-of-Distribution Detection with
Deep Nearest Neighbors"), d the mean similarity of those rows to their own k nearest rows, so that a prompt in a
sparse region is not called strange for being as far from its neighbours as they are from theirs (after Breunig et
al. 2000, "LOF"), and p the calibrated probability of the best adapter.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, Self

import numpy as np
from attrs import frozen
from numpy.typing import NDArray

from adapters.router.router_heads import Array
from domain.errors import RouterFileError

SHAPES: Final[Mapping[str, tuple[str, ...]]] = {
    "bank.projection": ("D", "F"),
    "bank.features": ("N", "D"),
    "bank.density": ("N",),
    "bank.labels": ("N",),
    "bank.score": ("3",),
}
"""Tensors of a bank: F features, D directions, N rows; the score's are k, density weight, confidence weight."""


@frozen(eq=False)
class PromptBank:
    """A bank ready for use, in float32 however it is kept.

    Attributes:
        projection: standardised features to bank vectors, (D, F).
        features: the rows, of length 1, (N, D).
        density: mean similarity of each row to its own nearest rows, (N,).
        labels: label of each row, (N,).
        neighbours: k, 1 or more.
        density_weight: weight of the neighbours' own density in the score.
        confidence_weight: weight of the head's confidence in the score.
    """

    projection: Array
    features: Array
    density: Array
    labels: NDArray[np.int64]
    neighbours: int
    density_weight: float
    confidence_weight: float

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, Any]) -> Self:
        """Return the bank in a router's tensors."""
        neighbours, density_weight, confidence_weight = np.asarray(tensors["bank.score"]).tolist()
        projection, features, density = (
            np.asarray(tensors[f"bank.{name}"], np.float32) for name in ("projection", "features", "density")
        )
        labels = np.asarray(tensors["bank.labels"], np.int64)
        return cls(projection, features, density, labels, int(neighbours), density_weight, confidence_weight)

    def tensors(self) -> dict[str, NDArray[Any]]:
        """Return the bank as a router's tensors; what is large, in half precision."""
        return {
            "bank.projection": self.projection.astype(np.float16),
            "bank.features": self.features.astype(np.float16),
            "bank.density": self.density.astype(np.float32),
            "bank.labels": self.labels,
            "bank.score": np.array([self.neighbours, self.density_weight, self.confidence_weight], np.float32),
        }

    def similarities(self, standardised: Array) -> Array:
        """Return the cosine similarity of each prompt to each row, (n, N), for standardised features (n, F)."""
        return np.asarray(embed(self.projection, standardised) @ self.features.T)

    def scores(self, similarity: Array, confidence: NDArray[Any]) -> NDArray[np.float64]:
        """Return each prompt's out-of-scope score, (n,).

        Args:
            similarity: its similarities to the rows, (n, N).
            confidence: calibrated probability of its best adapter, (n,).
        """
        rows = top(similarity, self.neighbours)  # (n, k)
        near = np.take_along_axis(similarity, rows, axis=1).mean(axis=1)
        density = self.density[rows].mean(axis=1)
        certain = np.log(np.maximum(confidence, 1e-12))
        return np.asarray(self.density_weight * density - near - self.confidence_weight * certain, np.float64)


def embed(projection: Array, standardised: Array) -> Array:
    """Return bank vectors (n, D) of length 1 for standardised features (n, F)."""
    vectors = standardised @ projection.T
    norms = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.asarray(vectors / np.maximum(norms, 1e-12), np.float32)


def top(similarity: Array, count: int) -> NDArray[np.int64]:
    """Return the columns of the `count` highest values of each row, in no particular order."""
    count = min(count, similarity.shape[1])
    return np.argpartition(similarity, similarity.shape[1] - count, axis=1)[:, -count:]


def nearest_rows(similarity: Array, count: int) -> NDArray[np.int64]:
    """Return the `count` most similar bank rows of each prompt, most similar first, ties to the lower row."""
    return np.argsort(-similarity, axis=1, kind="stable")[:, :count]


def check_bank_tensors(tensors: Mapping[str, Any], *, n_features: int, n_labels: int, n_texts: int) -> None:
    """Raise RouterFileError unless the bank's tensors are all there, agree with each other and are usable."""
    names = {name for name in tensors if name.startswith("bank.")}
    if missing := sorted(set(SHAPES) - names):
        raise RouterFileError(f"the bank lacks the tensor {missing[0]}")
    if extra := sorted(names - set(SHAPES)):
        raise RouterFileError(f"the bank has the unexpected tensor {extra[0]}")
    sizes = {"F": n_features, "N": n_texts, "3": 3}
    for name, symbols in SHAPES.items():
        shape = tuple(tensors[name].shape)
        if len(shape) == len(symbols):
            sizes.setdefault("D", shape[symbols.index("D")] if "D" in symbols else 0)
        expected = tuple(sizes.get(symbol, 0) for symbol in symbols)
        if shape != expected or 0 in shape:
            raise RouterFileError(f"tensor {name} has shape {list(shape)}, expected {list(expected)}")
        if not np.all(np.isfinite(np.asarray(tensors[name]))):
            raise RouterFileError(f"tensor {name} has values that are not finite")
    labels, neighbours = np.asarray(tensors["bank.labels"]), float(tensors["bank.score"][0])
    if labels.dtype != np.int64 or labels.min() < 0 or labels.max() >= n_labels:
        raise RouterFileError(f"tensor bank.labels has values that are no labels in 0..{n_labels - 1}")
    if neighbours < 1 or neighbours != int(neighbours):
        raise RouterFileError(f"tensor bank.score asks for {neighbours} neighbours, expected a whole number from 1")
