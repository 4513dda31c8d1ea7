"""A quick judge of features: kernel ridge regression with exact leave-one-out, in numpy."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from attrs import frozen

from adapters.router.ridge import MAX_EXACT_ROWS, PENALTIES, balanced_rows, leave_one_out, one_thread
from adapters.router.router_heads import cosine_kernel, scaling, unit_rows
from application.ports import ProbeScore
from domain.features import Matrix


@frozen
class KernelRidgeProbe:
    """A :class:`application.ports.FeatureProbe`: leave-one-out cross entropy of kernel ridge regression.

    The kernel is the kernel head's, so that what is judged is what gets trained. One eigendecomposition of at
    most `max_rows` rows per call.

    Attributes:
        gamma: sharpness of the kernel.
        max_rows: rows that are looked at, balanced over the labels.
    """

    gamma: float = 1.0
    max_rows: int = MAX_EXACT_ROWS

    def score(self, features: Matrix, labels: Sequence[int], n_labels: int) -> ProbeScore:
        """Return the leave-one-out score."""
        rows = balanced_rows(labels, self.max_rows)
        kept = np.asarray(features[rows], np.float32)
        mean, scale = scaling(kept)
        with one_thread():
            units = unit_rows((kept - mean) / scale)
            kernel = np.asarray(cosine_kernel(units, units, self.gamma), np.float64)
            result = leave_one_out(kernel, [labels[row] for row in rows], n_labels + 1, PENALTIES)
        return ProbeScore(loss=result.loss, accuracy=result.accuracy)
