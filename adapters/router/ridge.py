"""Closed-form classifiers: kernel ridge regression on one-hot targets, with exact leave-one-out predictions.

They fit in one linear solve, which is why routers start from them, and judge features without a second
fit. The leave-one-out formula is the one of Rifkin & Lippert, "Notes on Regularized Least Squares" (2007),
section 3.3: ``y_i - alpha_i / (K + lambda I)^-1_ii``. Everything runs in float64 on one thread, so that
the same numbers come out whatever the number of cores.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np
from attrs import frozen
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

Array = NDArray[np.float64]

LOGIT_SCALES = np.geomspace(1.0, 64.0, 25)
"""Factors that turn regression outputs (about 0 to 1) into logits."""

MAX_EXACT_ROWS = 600
"""Rows that leave-one-out looks at: its cost grows with their cube, its precision with their root."""


@frozen(eq=False)
class LeaveOneOut:
    """What leave-one-out says of one kernel.

    Attributes:
        penalty: the ridge penalty with the lowest loss.
        loss: mean cross entropy of the left-out rows, in nats, at the best logit scale.
        accuracy: accuracy on the left-out rows, 0 to 1.
        outputs: what the regression on the other rows says of each row, about 0 to 1, (n, C).
    """

    penalty: float
    loss: float
    accuracy: float
    outputs: Array


@contextmanager
def one_thread() -> Iterator[None]:
    """Run numpy's linear algebra on one thread: sums are then in one order, on any number of cores."""
    with threadpool_limits(limits=1):
        yield


def targets(labels: Sequence[int], n_labels: int) -> tuple[Array, Array]:
    """Return centred one-hot targets (n, C) and the share of each label (C,)."""
    one_hot = np.eye(n_labels)[np.asarray(labels)]
    share = one_hot.mean(axis=0)
    return one_hot - share, share


def leave_one_out(kernel: Array, labels: Sequence[int], n_labels: int, penalties: Sequence[float]) -> LeaveOneOut:
    """Return the best of the penalties for a kernel (n, n) over rows with these labels; ties go to the larger."""
    centred, share = targets(labels, n_labels)
    values, vectors = np.linalg.eigh(kernel)
    found: list[LeaveOneOut] = []
    for penalty in sorted(penalties, reverse=True):
        inverse = (vectors / (np.maximum(values, 0.0) + penalty)) @ vectors.T  # (n, n)
        left_out = centred - (inverse @ centred) / np.diag(inverse)[:, None] + share  # (n, C)
        _, loss = best_scale(left_out, labels)
        right = left_out.argmax(axis=1) == np.asarray(labels)
        found.append(LeaveOneOut(penalty, loss, float(right.mean()), left_out))
    return min(found, key=lambda one: one.loss)


def solve(kernel: Array, labels: Sequence[int], n_labels: int, penalty: float) -> Array:
    """Return the dual weights (n, C) of kernel ridge regression on centred one-hot targets."""
    centred, _ = targets(labels, n_labels)
    return np.asarray(np.linalg.solve(kernel + penalty * np.eye(len(kernel)), centred))


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
