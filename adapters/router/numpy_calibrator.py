"""Fits temperature, out-of-scope score and thresholds to a trained head, in numpy."""

from __future__ import annotations

from typing import Any

import numpy as np
from attrs import frozen
from numpy.typing import NDArray

from adapters.router.bank_fitting import BANK_ROWS, ROWS_PER_ADAPTER, bank_offset, fit_bank, spread, stand_in_scores
from adapters.router.prompt_bank import PromptBank
from adapters.router.ridge import one_thread
from adapters.router.router_heads import Array, head_logits, log_sum_exp, softmax, standardise
from application.ports import Calibration, LabelledFeatures, UncalibratedRouter
from domain.abstention import ScoredRow, ThresholdFit, fit_thresholds
from domain.calibration import fit_temperature
from domain.features import Matrix

LEAST_SIMILAR = -1.0


@frozen
class NumpyRouterCalibrator:
    """A :class:`application.ports.RouterCalibrator`; its rules are in :mod:`domain.calibration` and ``abstention``.

    The bank remembers validation prompts and out-of-scope examples too: the more prompts it knows, the better it
    tells strangers. Where such a prompt is scored to fit a threshold, it is left out of the bank.

    Attributes:
        rows_per_adapter: most prompts of each adapter that the router remembers.
    """

    rows_per_adapter: int = ROWS_PER_ADAPTER

    @one_thread()
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
        known = standardise(router.tensors, np.concatenate([train.features, val.features]))
        labels = np.asarray([*train.labels, *val.labels], np.int64)
        foreign = [] if out_of_scope is None else out_of_scope[spread(np.arange(len(out_of_scope)), BANK_ROWS)]
        strangers = standardise(router.tensors, foreign) if len(foreign) else None
        bank, kept = fit_bank(
            known,
            labels,
            offset=bank_offset(router.tensors["feature.mean"], router.tensors["feature.scale"]),
            strangers=strangers,
            rows_per_adapter=self.rows_per_adapter,
        )
        logits = head_logits(router.head, router.tensors, val.features).astype(np.float64)
        temperature = _temperature(router, logits, train, val)
        n_train = len(train.labels)
        fit = fit_thresholds(
            _scored(bank, known[n_train:], logits / temperature, val.labels, _without_itself(kept, n_train)),
            target_error,
            [] if strangers is None else _scored_strangers(router, bank, foreign, temperature),
            stand_ins=stand_in_scores(bank, known[n_train:], labels[n_train:], logits / temperature),
        )
        texts = (*train.texts, *val.texts)
        bank_texts = tuple(texts[i] for i in kept.tolist())
        return Calibration(temperature, fit.thresholds, bank.tensors(), bank_texts, _notes(fit, target_error))


def _temperature(
    router: UncalibratedRouter, logits: NDArray[np.float64], train: LabelledFeatures, val: LabelledFeatures
) -> float:
    """Fit the temperature on the validation rows, and on the training rows where it is known how they fare unseen."""
    if router.left_out is None:
        return fit_temperature(logits.tolist(), val.labels)
    both = np.concatenate([logits, np.asarray(router.left_out, np.float64)])
    return fit_temperature(both.tolist(), [*val.labels, *train.labels])


def _without_itself(kept: NDArray[np.int64], n_train: int) -> NDArray[np.int64]:
    """Return (bank row, validation row) of each validation prompt in the bank, (r, 2)."""
    rows = np.flatnonzero(kept >= n_train)
    return np.stack([rows, kept[rows] - n_train], axis=1)


def _scored(
    bank: PromptBank, val: Array, logits: NDArray[np.float64], labels: tuple[int, ...], own: NDArray[np.int64]
) -> list[ScoredRow]:
    """Score validation prompts as the scorer will score prompts that the bank does not know."""
    vectors = bank.embed(val)
    similarity = bank.similarities(vectors)
    similarity[own[:, 1], own[:, 0]] = LEAST_SIMILAR
    scores = bank.scores(similarity, log_sum_exp(logits), bank.stranger_similarity(vectors))
    return _rows(logits, scores, logits.argmax(axis=1) == np.asarray(labels))


def _scored_strangers(
    router: UncalibratedRouter, bank: PromptBank, features: Any, temperature: float
) -> list[ScoredRow]:
    """Score the out-of-scope examples in the bank, each against the others; none where there is no other."""
    if len(bank.strangers) < 2:
        return []
    logits = head_logits(router.head, router.tensors, features).astype(np.float64) / temperature
    vectors = bank.embed(standardise(router.tensors, features))
    alike = vectors @ bank.strangers.T
    np.fill_diagonal(alike, LEAST_SIMILAR)
    scores = bank.scores(bank.similarities(vectors), log_sum_exp(logits), alike.max(axis=1))
    return _rows(logits, scores, np.zeros(len(vectors), bool))


def _rows(logits: NDArray[np.float64], scores: NDArray[np.float64], right: NDArray[np.bool_]) -> list[ScoredRow]:
    confidence = softmax(logits).max(axis=1)
    return [ScoredRow(*row) for row in zip(confidence.tolist(), scores.tolist(), right.tolist(), strict=True)]


def _notes(fit: ThresholdFit, target_error: float) -> tuple[str, ...]:
    if fit.reached:
        return ()
    return (
        f"target error {target_error:.2%} cannot be shown with these validation prompts: with {fit.coverage:.0%} of "
        f"them answered, the error rate may be up to {fit.error_bound:.2%} (more validation prompts help)",
    )
