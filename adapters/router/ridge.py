"""Closed-form classifiers: kernel ridge regression on one-hot targets, with exact leave-one-out predictions.

They fit in one linear solve, which is why routers start from them, and judge features without a second
fit. The leave-one-out formula is the one of Rifkin & Lippert, "Notes on Regularized Least Squares" (2007),
section 3.3: ``y_i - alpha_i / (K + lambda I)^-1_ii``, here for whole groups of
rows. Everything runs in float64 on one thread, so that the same numbers come out whatever the number of cores.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np
from attrs import frozen
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

Array = NDArray[np.float64]

PENALTIES = (0.003, 0.01, 0.03, 0.1)
"""Ridge penalties that leave-one-out chooses among."""

LOGIT_SCALES = np.geomspace(1.0, 64.0, 25)
"""Factors that turn regression outputs (about 0 to 1) into logits."""

MAX_EXACT_ROWS = 600
"""Rows that leave-one-out looks at: its cost grows with their cube, its precision with their root."""


MOST_WEIGHT = 4.0
"""A label's rows count at most so many times as much, or as little, as a typical label's."""


@frozen(eq=False)
class LeaveOneOut:
    """What leave-one-out says of one kernel.

    Attributes:
        penalty: the ridge penalty with the lowest loss.
        loss: mean cross entropy of the left-out rows, in nats, at the best logit scale.
        accuracy: accuracy on the left-out rows, 0 to 1.
    """

    penalty: float
    loss: float
    accuracy: float


@contextmanager
def one_thread() -> Iterator[None]:
    """Run numpy's linear algebra on one thread: sums are then in one order, on any number of cores."""
    with threadpool_limits(limits=1):
        yield


def targets(labels: Sequence[int], n_outputs: int) -> Array:
    """Return one-hot targets (n, K)."""
    return np.asarray(np.eye(n_outputs)[np.asarray(labels)])


def row_weights(labels: Sequence[int]) -> Array:
    """Return a weight for each row, (n,), mean about 1, so that a label of few rows counts as much as one of many.

    Inverse to the number of rows of its label, within a factor of `MOST_WEIGHT`: one row alone must not decide.
    """
    found, counts = np.unique(np.asarray(labels), return_counts=True)
    typical = float(np.exp(np.log(counts).mean()))
    weights = np.clip(typical / counts, 1 / MOST_WEIGHT, MOST_WEIGHT)
    return np.asarray(weights[np.searchsorted(found, np.asarray(labels))], np.float64)


def leave_one_out(
    kernel: Array,
    labels: Sequence[int],
    n_outputs: int,
    penalties: Sequence[float],
    groups: Sequence[int] = (),
) -> LeaveOneOut:
    """Return the best of the penalties for a kernel (n, n) over rows with these labels; ties go to the larger.

    Rows of one group (a prompt and its copies) are left out together. Only rows of labels below `n_outputs` - 1 are
    judged when there are others: how well "none" is recognised does not decide.
    """
    wanted, weights = targets(labels, n_outputs), row_weights(labels)
    judged = [index for index, label in enumerate(labels) if label < n_outputs - 1] or list(range(len(labels)))
    judged_labels = [labels[index] for index in judged]
    found: list[LeaveOneOut] = []
    for penalty in sorted(penalties, reverse=True):
        inverse = np.asarray(np.linalg.inv(kernel + np.diag(penalty / weights)), np.float64)  # (n, n)
        left_out = wanted - _group_residuals(inverse, np.asarray(inverse @ wanted), groups)  # (n, K)
        outputs = left_out[judged]
        _, loss = best_scale(outputs, judged_labels)
        right = outputs.argmax(axis=1) == np.asarray(judged_labels)
        found.append(LeaveOneOut(penalty, loss, float(right.mean())))
    return min(found, key=lambda one: one.loss)


def _group_residuals(inverse: Array, dual: Array, groups: Sequence[int]) -> Array:
    """Return what each row's target exceeds the output of a fit without its group by, (n, K)."""
    if not groups:
        return np.asarray(dual / np.diag(inverse)[:, None])
    residuals = np.empty_like(dual)
    order = np.argsort(np.asarray(groups), kind="stable")
    edges = np.flatnonzero(np.diff(np.asarray(groups)[order])) + 1
    for rows in np.split(order, edges):
        residuals[rows] = np.linalg.solve(inverse[np.ix_(rows, rows)], dual[rows])
    return residuals


def solve(kernel: Array, labels: Sequence[int], n_outputs: int, penalty: float) -> Array:
    """Return the dual weights (n, K) of kernel ridge regression on one-hot targets; see :func:`row_weights`."""
    loaded = kernel + np.diag(penalty / row_weights(labels))
    return np.asarray(np.linalg.solve(loaded, targets(labels, n_outputs)))


def best_scale(outputs: Array, labels: Sequence[int]) -> tuple[float, float]:
    """Return the logit scale with the lowest mean cross entropy for outputs (n, C), and that loss in nats."""
    losses = [cross_entropy(outputs * scale, labels) for scale in LOGIT_SCALES]
    best = int(np.argmin(losses))
    return float(LOGIT_SCALES[best]), losses[best]


def cross_entropy(logits: Array, labels: Sequence[int]) -> float:
    """Return the mean cross entropy of logits (n, C), in nats."""
    shifted = logits - logits.max(axis=1, keepdims=True)
    picked = shifted[np.arange(len(shifted)), np.asarray(labels)]
    return float(np.mean(np.log(np.exp(shifted).sum(axis=1)) - picked))


def balanced_rows(labels: Sequence[int], limit: int) -> list[int]:
    """Return at most `limit` row numbers, ascending, with the labels as balanced as the rows allow.

    First rows of each label first: the choice depends on the labels only.
    """
    if len(labels) <= limit:
        return list(range(len(labels)))
    seen: dict[int, int] = {}
    ranked = []
    for row, label in enumerate(labels):
        seen[label] = seen.get(label, 0) + 1
        ranked.append((seen[label], label, row))
    return sorted(row for _, _, row in sorted(ranked)[:limit])
