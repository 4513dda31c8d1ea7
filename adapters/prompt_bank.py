"""The bank: a compact memory of training prompts, for the out-of-scope score and for showing nearest prompts.

A row is a training prompt's standardised feature vector, scaled to length 1. Similarity is the cosine of such
vectors; the out-of-scope score is 1 minus the mean similarity to the `NEIGHBOURS` most similar rows
(k-nearest-neighbour scoring, Sun et al. 2022, "Out-of-Distribution Detection with Deep Nearest Neighbors").
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from adapters.router_heads import Array, standardise
from domain.errors import RouterFileError

NEIGHBOURS: Final = 5
"""How many of the most similar rows make the out-of-scope score."""

ROWS_PER_ADAPTER: Final = 200
"""At most so many training prompts of each adapter are kept."""


def embed(tensors: Mapping[str, Any], features: Any) -> Array:
    """Return raw features (n, F) as standardised vectors of length 1."""
    vectors = standardise(tensors, features)
    norms = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.asarray(vectors / np.maximum(norms, 1e-12), np.float32)


def choose_rows(labels: NDArray[np.int64], limit: int = ROWS_PER_ADAPTER, seed: int = 0) -> NDArray[np.int64]:
    """Return the indices of the rows to keep, ascending: at most `limit` per label, drawn evenly."""
    random = np.random.default_rng(seed)
    kept = []
    for label in np.unique(labels):
        rows = np.flatnonzero(labels == label)
        kept.append(rows if len(rows) <= limit else random.choice(rows, limit, replace=False))
    return np.sort(np.concatenate(kept))


def make_bank(tensors: Mapping[str, Any], features: Any, labels: NDArray[np.int64]) -> dict[str, NDArray[Any]]:
    """Return the bank's tensors for training features (n, F) and their labels (n,)."""
    return {"bank.features": embed(tensors, features).astype(np.float16), "bank.labels": labels.astype(np.int64)}


def similarities(tensors: Mapping[str, Any], features: Any) -> Array:
    """Return the cosine similarity of each prompt to each bank row, (n, bank rows), for raw features (n, F)."""
    bank = np.asarray(tensors["bank.features"], np.float32)  # (bank rows, F)
    return np.asarray(embed(tensors, features) @ bank.T)


def out_of_scope_scores(similarity: Array) -> Array:
    """Return the out-of-scope score of each prompt, (n,), from its similarities (n, bank rows)."""
    k = min(NEIGHBOURS, similarity.shape[1])
    nearest = np.partition(similarity, similarity.shape[1] - k, axis=1)[:, -k:]  # (n, k)
    return np.asarray(1.0 - nearest.mean(axis=1), np.float32)


def nearest_rows(similarity: Array, count: int) -> NDArray[np.int64]:
    """Return the `count` most similar bank rows of each prompt, most similar first, ties to the lower row."""
    return np.argsort(-similarity, axis=1, kind="stable")[:, :count]


def check_bank_tensors(tensors: Mapping[str, Any], *, n_features: int, n_labels: int, n_texts: int) -> None:
    """Raise RouterFileError unless the bank's tensors are all there, agree with each other and are finite."""
    names = {name for name in tensors if name.startswith("bank.")}
    expected = {"bank.features", "bank.labels"}
    if missing := sorted(expected - names):
        raise RouterFileError(f"the bank lacks the tensor {missing[0]}")
    if extra := sorted(names - expected):
        raise RouterFileError(f"the bank has the unexpected tensor {extra[0]}")
    features, labels = np.asarray(tensors["bank.features"]), np.asarray(tensors["bank.labels"])
    if features.ndim != 2 or features.shape[1] != n_features or len(features) < 1:
        raise RouterFileError(f"tensor bank.features has shape {list(features.shape)}, expected [n, {n_features}]")
    if labels.shape != features.shape[:1] or labels.dtype != np.int64:
        raise RouterFileError(f"tensor bank.labels has shape {list(labels.shape)}, expected [{len(features)}]")
    if n_texts != len(features):
        raise RouterFileError(f"the bank has {len(features)} rows but {n_texts} texts")
    if labels.min() < 0 or labels.max() >= n_labels:
        raise RouterFileError(f"tensor bank.labels has labels outside 0..{n_labels - 1}")
    if not np.all(np.isfinite(features)):
        raise RouterFileError("tensor bank.features has values that are not finite")
