"""Fits temperature, out-of-scope score and thresholds to a trained head, in numpy."""

from __future__ import annotations

from typing import Any

import numpy as np
from attrs import frozen

from adapters.router.bank_fitting import ROWS_PER_ADAPTER, fit_bank, stranger_scores
from adapters.router.prompt_bank import PromptBank
from adapters.router.router_heads import head_logits, softmax, standardise
from application.ports import Calibration, LabelledFeatures, UncalibratedRouter
from domain.abstention import ScoredRow, ThresholdFit, fit_thresholds
from domain.calibration import fit_temperature
from domain.features import Matrix


@frozen
class NumpyRouterCalibrator:
    """A :class:`application.ports.RouterCalibrator`; its rules are in :mod:`domain.calibration` and ``abstention``.

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
        labels, val_labels = np.asarray(train.labels, np.int64), np.asarray(val.labels, np.int64)
        known, unknown = standardise(router.tensors, train.features), standardise(router.tensors, val.features)
        bank, kept = fit_bank(known, labels, unknown, val_labels, rows_per_adapter=self.rows_per_adapter)
        logits = head_logits(router.head, router.tensors, val.features).astype(np.float64)
        temperature = fit_temperature(logits.tolist(), val.labels)
        fit = fit_thresholds(
            _scored(router, bank, temperature, val.features, val.labels),
            target_error,
            [] if out_of_scope is None else _scored(router, bank, temperature, out_of_scope, None),
            stand_ins=stranger_scores(bank, unknown, val_labels, logits / temperature),
        )
        texts = tuple(train.texts[i] for i in kept.tolist())
        return Calibration(temperature, fit.thresholds, bank.tensors(), texts, _notes(fit, target_error))


def _scored(
    router: UncalibratedRouter, bank: PromptBank, temperature: float, features: Any, labels: tuple[int, ...] | None
) -> list[ScoredRow]:
    """Score rows as the scorer will; `labels` None means that no adapter is right."""
    if len(features) == 0:
        return []
    probabilities = softmax(head_logits(router.head, router.tensors, features) / temperature)
    confidence, best = probabilities.max(axis=1), probabilities.argmax(axis=1)
    scores = bank.scores(bank.similarities(standardise(router.tensors, features)), confidence)
    right = np.zeros(len(best), bool) if labels is None else best == np.asarray(labels)
    return [ScoredRow(*row) for row in zip(confidence.tolist(), scores.tolist(), right.tolist(), strict=True)]


def _notes(fit: ThresholdFit, target_error: float) -> tuple[str, ...]:
    if fit.reached:
        return ()
    return (
        f"target error {target_error:.2%} cannot be shown with these validation prompts: with {fit.coverage:.0%} of "
        f"them answered, the error rate may be up to {fit.error_bound:.2%} (more validation prompts help)",
    )
