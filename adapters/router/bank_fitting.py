"""Builds a prompt bank out of the known prompts: which to keep, and in which directions to compare them."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from adapters.router.prompt_bank import PromptBank, embed, top
from adapters.router.router_heads import Array

ROWS_PER_ADAPTER: Final = 500
"""At most so many known prompts of each adapter are kept; the more, the better other prompts are told."""

BANK_ROWS: Final = 5000
"""With many adapters each keeps fewer, so that a bank has about so many rows at most."""

DIRECTIONS: Final = 512
"""At most so many main directions of the features are kept."""

MOST_OFFSET: Final = 3.0
"""An offset is at most so many standard deviations: some models have features with means of hundreds."""

MOST_NEIGHBOURS: Final = 5
# Weights that half precision holds exactly; chosen on validation prompts of CLINC (docs/experiments.md).
DENSITY_WEIGHT: Final = 0.5
EVIDENCE_WEIGHT: Final = 0.03125
OUT_OF_SCOPE_WEIGHT: Final = 0.5
BACKGROUND_MARGIN: Final = 0.25
"""Of the distance between prompts and their nearest ones: similarities of some models are crowded near 1."""

SAMPLE: Final = 1000
"""At most so many rows decide the directions."""

Labels = NDArray[np.int64]


def bank_offset(mean: Any, scale: Any) -> Array:
    """Return what a bank adds to standardised features, (F,): their mean in standard deviations, limited."""
    return np.asarray(np.clip(np.asarray(mean) / np.asarray(scale), -MOST_OFFSET, MOST_OFFSET), np.float32)


def fit_bank(
    rows: Array,
    labels: Labels,
    *,
    offset: Array,
    background: Array,
    out_of_scope: Array,
    rows_per_adapter: int = ROWS_PER_ADAPTER,
) -> tuple[PromptBank, NDArray[np.int64]]:
    """Return the bank and the indices of the rows that it keeps.

    Args:
        rows: standardised features of known prompts, (n, F).
        labels: their labels, (n,).
        offset: see :func:`bank_offset`, (F,).
        background: standardised features of phrases that ask for nothing, (b, F); b may be 0.
        out_of_scope: standardised features of prompts that belong to no label, (m, F); m may be 0.
        rows_per_adapter: most rows of each adapter that are kept.
    """
    kept = choose_rows(labels, min(rows_per_adapter, max(BANK_ROWS // len(np.unique(labels)), 1)))
    # Rounded to half precision first, as the file keeps it: a prompt must meet the bank that it was fitted with.
    # What belongs to no label has its say in the directions: else phrases would not even resemble themselves.
    others = np.concatenate([background, out_of_scope])
    others = others[spread(np.arange(len(others)), SAMPLE // 4)]
    projection = rounded(main_directions(np.concatenate([rows[spread(kept, SAMPLE)], others]) + offset))
    features = rounded(embed(offset, projection, rows[kept]))
    smallest = int(np.unique(labels[kept], return_counts=True)[1].min())
    neighbours = int(np.clip(round(0.75 * smallest**0.5), 1, MOST_NEIGHBOURS))
    density = own_density(features @ features.T, neighbours)
    bank = PromptBank(
        offset=offset,
        projection=projection,
        features=features,
        density=density,
        labels=labels[kept],
        background=rounded(embed(offset, projection, background)),
        out_of_scope=rounded(embed(offset, projection, out_of_scope)),
        neighbours=neighbours,
        density_weight=DENSITY_WEIGHT,
        evidence_weight=EVIDENCE_WEIGHT,
        out_of_scope_weight=OUT_OF_SCOPE_WEIGHT,
        background_margin=float(np.float32(BACKGROUND_MARGIN * (1.0 - density.mean(dtype=np.float64)))),
    )
    return bank, kept


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


def main_directions(rows: Array, limit: int = DIRECTIONS) -> Array:
    """Return the directions (D, F), of length 1, in which rows (n, F) are longest, taken together.

    Right singular vectors of the rows as they are (not centred), by way of the smaller of the two products.
    Directions that hold less than a ten-thousandth of what the first one holds are left out.
    """
    wide = rows.shape[1] > rows.shape[0]
    square = (rows @ rows.T if wide else rows.T @ rows).astype(np.float64) / len(rows)
    values, vectors = np.linalg.eigh(square)
    keep = np.flatnonzero(values > 1e-4 * values[-1])[::-1][:limit]
    if len(keep) == 0:  # all rows are zero: any direction does
        return np.eye(1, rows.shape[1], dtype=np.float32)
    basis = vectors[:, keep].T  # (D, n) or (D, F)
    if wide:
        basis = basis @ rows / np.sqrt(values[keep] * len(rows))[:, None]
    return np.asarray(basis, np.float32)


def rounded(values: Array) -> Array:
    """Return the values as half precision keeps them, in float32."""
    return np.asarray(values.astype(np.float16).astype(np.float32))


def own_density(similarity: Array, neighbours: int) -> Array:
    """Return each row's mean similarity to its nearest other rows, (N,), from the rows' similarities (N, N)."""
    if len(similarity) == 1:
        return np.ones(1, np.float32)
    others = similarity.copy()
    np.fill_diagonal(others, -np.inf)
    neighbours = min(neighbours, len(others) - 1)
    nearest = np.take_along_axis(others, top(others, neighbours), axis=1)  # (N, k)
    return np.asarray(nearest.mean(axis=1), np.float32)
