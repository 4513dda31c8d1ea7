"""Fits temperature, out-of-scope score and thresholds to a trained head, in numpy."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from attrs import frozen
from numpy.typing import NDArray

from adapters.router.bank_fitting import BANK_ROWS, ROWS_PER_ADAPTER, bank_offset, fit_bank, spread
from adapters.router.piece_scores import PromptScores, prompt_scores
from adapters.router.prompt_bank import PromptBank, Readings, Without
from adapters.router.ridge import one_thread
from adapters.router.router_heads import Array, softmax, standardise
from application.ports import Calibration, KnownTexts, LeftOutFold, UncalibratedRouter
from domain.abstention import ScoredRow, fit_thresholds
from domain.calibration import fit_temperature
from domain.trade_off import trade_off


@frozen
class NumpyRouterCalibrator:
    """A :class:`application.ports.RouterCalibrator`; its rules are in :mod:`domain.calibration` and ``abstention``.

    Where a left-out prompt is scored, the bank forgets everything of its fold, as the head does that was asked.

    Attributes:
        rows_per_adapter: most prompts of each adapter that the router remembers.
    """

    rows_per_adapter: int = ROWS_PER_ADAPTER

    @one_thread()
    def calibrate(
        self, router: UncalibratedRouter, left_out: Sequence[LeftOutFold], *, target_error: float
    ) -> Calibration:
        """Return the calibration; see the port."""
        known = standardise(router.tensors, router.known.features)
        few = spread(np.arange(len(router.out_of_scope.texts)), BANK_ROWS)
        foreign = standardise(router.tensors, router.out_of_scope.features[few])
        bank, kept = fit_bank(
            known,
            np.asarray(router.known.labels, np.int64),
            offset=bank_offset(router.tensors["feature.mean"], router.tensors["feature.scale"]),
            background=standardise(router.tensors, router.background.features),
            out_of_scope=foreign,
            rows_per_adapter=self.rows_per_adapter,
        )
        folds = _Folds(_folds(router.known)[kept], _folds(router.background), _folds(router.out_of_scope)[few])
        readings = [folds.read(bank, router, fold, number) for number, fold in enumerate(left_out)]
        temperature = _temperature(bank, readings, left_out)
        rows = [
            row
            for reading, fold in zip(readings, left_out, strict=True)
            for row in _rows(_scored(bank, reading, fold, temperature), fold)
        ]
        fit = fit_thresholds(rows, target_error)
        texts = tuple(router.known.texts[row] for row in kept.tolist())
        return Calibration(
            temperature, fit.thresholds, bank.tensors(), texts, trade_off(rows, target_error), fit.notes
        )


@frozen(eq=False)
class _Folds:
    """Which fold each row, background phrase and out-of-scope prompt of a bank belongs to."""

    rows: NDArray[np.int64]
    background: NDArray[np.int64]
    out_of_scope: NDArray[np.int64]

    def read(self, bank: PromptBank, router: UncalibratedRouter, fold: LeftOutFold, number: int) -> Readings:
        vectors = bank.embed(standardise(router.tensors, fold.features))
        without = Without(self.rows == number, self.background == number, self.out_of_scope == number)
        return bank.read(vectors, without)


def _folds(known: KnownTexts) -> NDArray[np.int64]:
    return np.asarray(known.folds, np.int64)


def _scored(bank: PromptBank, readings: Readings, fold: LeftOutFold, temperature: float) -> PromptScores:
    return prompt_scores(bank, readings, np.asarray(fold.logits, np.float64) / temperature, fold.sizes)


def _temperature(bank: PromptBank, readings: Sequence[Readings], left_out: Sequence[LeftOutFold]) -> float:
    """Fit the temperature on the left-out prompts that have a label, changed or not."""
    logits: list[list[float]] = []
    labels: list[int] = []
    for reading, fold in zip(readings, left_out, strict=True):
        scores = _scored(bank, reading, fold, 1.0).logits
        inside = [index for index, label in enumerate(fold.labels) if label < scores.shape[1]]
        logits += scores[inside].tolist()
        labels += [fold.labels[index] for index in inside]
    return fit_temperature(logits, labels)


def _rows(scores: PromptScores, fold: LeftOutFold) -> list[ScoredRow]:
    confidence: Array = softmax(scores.logits).max(axis=1)
    best, n_labels = scores.logits.argmax(axis=1).tolist(), scores.logits.shape[1]
    return [
        ScoredRow(float(sure), float(strange), picked == label, in_scope=label < n_labels, changed=changed)
        for sure, strange, picked, label, changed in zip(
            confidence, scores.out_of_scope, best, fold.labels, fold.changed, strict=True
        )
    ]
