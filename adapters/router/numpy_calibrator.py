"""Fits temperature, out-of-scope score and thresholds to a trained head, in numpy."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
from attrs import evolve, frozen
from numpy.typing import NDArray

from adapters.router.bank_fitting import BANK_ROWS, ROWS_PER_ADAPTER, bank_offset, fit_bank, spread
from adapters.router.piece_scores import PromptScores, prompt_scores
from adapters.router.prompt_bank import PromptBank, Readings, Without
from adapters.router.ridge import one_thread
from adapters.router.router_heads import Array, shifted, softmax, standardise
from application.ports import Calibration, KnownTexts, LeftOutFold, UncalibratedRouter
from domain.abstention import ScoredRow, fit_thresholds
from domain.calibration import fit_temperature
from domain.trade_off import trade_off

MOST_SHIFT: Final = 3.0
"""A logit is shifted by at most so much: a label of one row must not win everything."""


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
        self,
        router: UncalibratedRouter,
        left_out: Sequence[LeftOutFold],
        *,
        target_error: float | None,
        cleaned: bool = False,
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
        counts = _label_counts(left_out, len(router.labels))
        shift = prior_shift(counts)
        left_out = [_balanced(fold, shift, counts) for fold in left_out]
        folds = _Folds(_folds(router.known)[kept], _folds(router.background), _folds(router.out_of_scope)[few])
        readings = [folds.read(bank, router, fold, number) for number, fold in enumerate(left_out)]
        temperature = _temperature(bank, readings, left_out)
        rows = [
            row
            for reading, fold in zip(readings, left_out, strict=True)
            for row in _rows(_scored(bank, reading, fold, temperature), fold)
        ]
        fit = fit_thresholds(rows, target_error, cleaned=cleaned)
        texts = tuple(router.known.texts[row] for row in kept.tolist())
        return Calibration(
            temperature,
            fit.thresholds,
            fit.target_error,
            bank.tensors() | (shifted(router.tensors, shift) if shift.any() else {}),
            texts,
            trade_off(rows, fit.target_error, cleaned=cleaned),
            fit.notes,
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


def _label_counts(left_out: Sequence[LeftOutFold], n_labels: int) -> NDArray[np.float64]:
    """Return how many prompts of the data each label has, changed copies aside, (C,); 1 where it has none."""
    own = [
        label for fold in left_out for label, changed in zip(fold.labels, fold.changed, strict=True) if not changed
    ]
    return np.maximum(np.bincount(np.asarray(own, np.int64), minlength=n_labels)[:n_labels], 1.0)


def prior_shift(counts: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return what is added to the logits, (C + 1,), so that labels of few rows are not crowded out; 0 for "none".

    Minus the logarithm of each label's share of the rows, after Menon et al. 2021, "Long-tail Learning via Logit
    Adjustment": the head is trained on unlike numbers of rows, but who asks knows nothing of them. All 0 where
    labels have equally many rows.
    """
    if (counts == counts[0]).all():
        return np.zeros(len(counts) + 1)
    rarity = np.log(counts).mean() - np.log(counts)
    return np.append(np.clip(rarity, -MOST_SHIFT, MOST_SHIFT), 0.0)


def _balanced(fold: LeftOutFold, shift: NDArray[np.float64], counts: NDArray[np.float64]) -> LeftOutFold:
    """Return the fold with shifted logits, and with weights such that all labels count alike."""
    of_label = [*(counts.mean() / counts).tolist(), 1.0]  # "none" last
    own = fold.weights or (1.0,) * len(fold.labels)
    weights = tuple(weight * of_label[label] for weight, label in zip(own, fold.labels, strict=True))
    return evolve(fold, logits=np.asarray(fold.logits, np.float64) + shift, weights=weights)


def _temperature(bank: PromptBank, readings: Sequence[Readings], left_out: Sequence[LeftOutFold]) -> float:
    """Fit the temperature on the left-out prompts that have a label, changed or not."""
    logits: list[list[float]] = []
    labels: list[int] = []
    weights: list[float] = []
    for reading, fold in zip(readings, left_out, strict=True):
        scores = _scored(bank, reading, fold, 1.0).logits
        inside = [index for index, label in enumerate(fold.labels) if label < scores.shape[1]]
        logits += scores[inside].tolist()
        labels += [fold.labels[index] for index in inside]
        weights += [fold.weights[index] for index in inside]
    return fit_temperature(logits, labels, weights)


def _rows(scores: PromptScores, fold: LeftOutFold) -> list[ScoredRow]:
    confidence: Array = softmax(scores.logits).max(axis=1)
    best, n_labels = scores.logits.argmax(axis=1).tolist(), scores.logits.shape[1]
    return [
        ScoredRow(float(sure), float(strange), picked == label, label < n_labels, changed, weight)
        for sure, strange, picked, label, changed, weight in zip(
            confidence, scores.out_of_scope, best, fold.labels, fold.changed, fold.weights, strict=True
        )
        if weight > 0
    ]
