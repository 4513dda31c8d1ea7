"""Builds a prompt bank out of the training prompts: which to keep, and in which space to compare them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import numpy as np
from attrs import evolve
from numpy.typing import NDArray

from adapters.router.prompt_bank import PromptBank, embed, top
from adapters.router.router_heads import Array, softmax
from domain.evaluation import auroc

ROWS_PER_ADAPTER: Final = 500
"""At most so many training prompts of each adapter are kept; the more, the better strangers are told."""

BANK_ROWS: Final = 5000
"""With many adapters each keeps fewer, so that a bank has about so many rows at most."""

DIRECTIONS: Final = 512
"""At most so many main directions of the features are kept."""

WHITENING: Final = 0.25
"""A direction is divided by its variance to this power, or to none (0.5 would be full whitening)."""

WHITENING_GAIN: Final = 0.01
"""What whitening must gain in :func:`stranger_auroc`: strangers that near overrate it by up to 0.01."""

NEIGHBOURS: Final = 10
DENSITY_WEIGHT: Final = 0.5
CONFIDENCE_WEIGHT: Final = 0.1

SAMPLE: Final = 1000
"""At most so many rows decide the directions and whether to whiten them."""

Labels = NDArray[np.int64]


def fit_bank(
    train: Array, labels: Labels, val: Array, val_labels: Labels, *, rows_per_adapter: int = ROWS_PER_ADAPTER
) -> tuple[PromptBank, NDArray[np.int64]]:
    """Return the bank and the indices of the training rows in it.

    Half-whitened directions serve some base models' features and not others'. The choice needs no out-of-scope
    prompts: each adapter in turn plays the stranger (see :func:`stranger_auroc`).

    Args:
        train: standardised training features, (n, F).
        labels: their labels, (n,).
        val: standardised validation features, (m, F).
        val_labels: their labels, (m,).
        rows_per_adapter: most rows of each adapter that are kept.
    """
    kept = choose_rows(labels, min(rows_per_adapter, max(BANK_ROWS // len(np.unique(labels)), 1)))
    some, some_val = spread(kept, SAMPLE), spread(np.arange(len(val)), SAMPLE)
    directions, variances = main_directions(train[some])
    whitened = directions / variances[:, None] ** WHITENING
    plain_auroc, whitened_auroc = (
        stranger_auroc(_bank(projection, train[some], labels[some]), val[some_val], val_labels[some_val])
        for projection in (directions, whitened)
    )
    projection = whitened if whitened_auroc - plain_auroc >= WHITENING_GAIN else directions
    return _bank(projection, train[kept], labels[kept]), kept


def choose_rows(labels: Labels, limit: int, seed: int = 0) -> NDArray[np.int64]:
    """Return the indices of the rows to keep, ascending: at most `limit` per label, drawn evenly."""
    random = np.random.default_rng(seed)
    kept = []
    for label in np.unique(labels):
        rows = np.flatnonzero(labels == label)
        kept.append(rows if len(rows) <= limit else random.choice(rows, limit, replace=False))
    return np.sort(np.concatenate(kept))


def spread(indices: NDArray[np.int64], limit: int) -> NDArray[np.int64]:
    """Return at most `limit` of the indices, evenly spaced."""
    return indices[np.linspace(0, len(indices) - 1, min(len(indices), limit)).astype(np.int64)]


def main_directions(rows: Array, limit: int = DIRECTIONS) -> tuple[Array, Array]:
    """Return the main directions (D, F) of standardised rows (n, F), and the variance (D,) along each.

    Principal components, by way of the smaller of covariance and Gram matrix. Directions whose variance is
    below a ten-thousandth of the first one's are left out.
    """
    wide = rows.shape[1] > rows.shape[0]
    square = (rows @ rows.T if wide else rows.T @ rows).astype(np.float64) / len(rows)
    values, vectors = np.linalg.eigh(square)
    keep = np.flatnonzero(values > 1e-4 * values[-1])[::-1][:limit]
    if len(keep) == 0:  # all rows are the same: any direction does
        return np.eye(1, rows.shape[1], dtype=np.float32), np.ones(1, np.float32)
    variances = values[keep]
    basis = vectors[:, keep].T  # (D, n) or (D, F)
    if wide:
        basis = basis @ rows / np.sqrt(variances * len(rows))[:, None]
    return basis.astype(np.float32), variances.astype(np.float32)


def _bank(projection: Array, rows: Array, labels: Labels) -> PromptBank:
    # Rounded to half precision first, as the file keeps it: a prompt must meet the bank that it was fitted with.
    projection = (projection / np.abs(projection).max()).astype(np.float16).astype(np.float32)
    features = embed(projection, rows).astype(np.float16).astype(np.float32)
    smallest = int(np.unique(labels, return_counts=True)[1].min())
    neighbours = int(np.clip(round(0.75 * smallest**0.5), 1, NEIGHBOURS))
    density = own_density(features @ features.T, neighbours)
    return PromptBank(projection, features, density, labels, neighbours, DENSITY_WEIGHT, CONFIDENCE_WEIGHT)


def own_density(similarity: Array, neighbours: int) -> Array:
    """Return each row's mean similarity to its nearest other rows, (N,), from the rows' similarities (N, N)."""
    if len(similarity) == 1:
        return np.ones(1, np.float32)
    others = similarity.copy()
    np.fill_diagonal(others, -np.inf)
    neighbours = min(neighbours, len(others) - 1)
    nearest = np.take_along_axis(others, top(others, neighbours), axis=1)  # (N, k)
    return np.asarray(nearest.mean(axis=1), np.float32)


def banks_without(bank: PromptBank) -> Iterator[tuple[int, NDArray[np.bool_], PromptBank]]:
    """Yield for each label the label, which rows are left without it, and the bank of those rows.

    The rows keep their density: their nearest rows are hardly ever another adapter's.
    """
    for label in np.unique(bank.labels).tolist():
        left = bank.labels != label
        if left.any():
            rows = {"features": bank.features[left], "density": bank.density[left], "labels": bank.labels[left]}
            yield label, left, evolve(bank, **rows)


def stranger_auroc(bank: PromptBank, val: Array, labels: Labels) -> float:
    """Return how well the bank tells an adapter's prompts from the others' when that adapter is not in the bank.

    The mean over the adapters of the AUROC between the others' validation prompts and its own. The head's
    confidence takes no part: the head knows the adapter.
    """
    similarity = bank.similarities(val)
    figures = []
    for stranger, left, without in banks_without(bank):
        inside = labels != stranger
        if not inside.all() and inside.any():
            scores = without.scores(similarity[:, left], np.ones(len(val)))
            figures.append(auroc(scores[inside].tolist(), scores[~inside].tolist()))
    return float(np.mean(figures)) if figures else 0.0


def stranger_scores(bank: PromptBank, val: Array, labels: Labels, logits: NDArray[np.float64]) -> list[float]:
    """Return the scores that validation prompts would get if their own adapter were unknown.

    Each adapter in turn is left out of the bank and of the head's choice; its prompts then stand for prompts that
    belong to none. They are nearer than most such prompts, so a limit that tells them is on the strict side.

    Args:
        bank: the whole bank.
        val: standardised validation features, (m, F).
        labels: their labels, (m,).
        logits: the head's logits divided by the temperature, (m, C).
    """
    scores: list[float] = []
    for stranger, left, without in banks_without(bank):
        own = labels == stranger
        others = np.delete(logits[own], stranger, axis=1)
        if len(others):
            confidence = softmax(others).max(axis=1)
            scores += without.scores(bank.similarities(val[own])[:, left], confidence).tolist()
    return scores
