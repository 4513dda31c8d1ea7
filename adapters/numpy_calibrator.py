"""Fits temperature, out-of-scope score and thresholds to a trained head, in numpy."""

from __future__ import annotations

from typing import Any

import numpy as np
from attrs import frozen
from numpy.typing import NDArray

from adapters.numpy_scorer import softmax
from adapters.prompt_bank import ROWS_PER_ADAPTER, choose_rows, make_bank, out_of_scope_scores, similarities
from adapters.router_heads import head_logits
from application.ports import Calibration, LabelledFeatures, UncalibratedRouter
from domain.calibration import ScoredRow, ThresholdFit, fit_temperature, fit_thresholds
from domain.features import Matrix


@frozen
class NumpyRouterCalibrator:
    """A :class:`application.ports.RouterCalibrator`; the rules are those of :mod:`domain.calibration`.

    Attributes:
        rows_per_adapter: most training prompts of each adapter that the router remembers.
    """

    rows_per_adapter: int = ROWS_PER_ADAPTER

    def calibrate(
        self,
        router: UncalibratedRouter,
        train: LabelledFeatures,
        val: LabelledFeatures,
        *,
        target_error: float,
        out_of_scope: Matrix | None = None,
    ) -> Calibration:
        """Return the calibration; see the port."""
        labels = np.asarray(train.labels, np.int64)
        kept = choose_rows(labels, self.rows_per_adapter)
        tensors = make_bank(router.tensors, np.asarray(train.features)[kept], labels[kept])
        known = {**router.tensors, **tensors}
        temperature = fit_temperature(head_logits(router.head, known, val.features).tolist(), val.labels)
        rows = _scored(router.head, known, temperature, val.features, val.labels)
        strangers = [] if out_of_scope is None else _scored(router.head, known, temperature, out_of_scope, None)
        fit = fit_thresholds(rows, target_error, strangers)
        return Calibration(
            temperature,
            fit.thresholds,
            tensors,
            tuple(train.texts[i] for i in kept.tolist()),
            _notes(fit, target_error),
        )


def _scored(
    head: str, tensors: dict[str, Any], temperature: float, features: Any, labels: tuple[int, ...] | None
) -> list[ScoredRow]:
    """Score rows as the scorer will; `labels` None means that no adapter is right."""
    if len(features) == 0:
        return []
    probabilities: NDArray[np.float64] = softmax(head_logits(head, tensors, features) / temperature)
    scores = out_of_scope_scores(similarities(tensors, features))
    best = probabilities.argmax(axis=1).tolist()
    right = [False] * len(best) if labels is None else [b == label for b, label in zip(best, labels, strict=True)]
    return [
        ScoredRow(confidence, score, ok)
        for confidence, score, ok in zip(probabilities.max(axis=1).tolist(), scores.tolist(), right, strict=True)
    ]


def _notes(fit: ThresholdFit, target_error: float) -> tuple[str, ...]:
    if fit.reached:
        return ()
    return (
        f"target error {target_error:.2%} cannot be shown with these validation prompts; the fit answers "
        f"{fit.coverage:.0%} of them at an estimated error of {fit.expected_error:.2%} (more prompts help)",
    )
