"""Where each kind of head starts from: a solution in closed form, so that gradient steps only refine it.

A head that starts at random needs hundreds of labelled prompts and a well-chosen learning rate to get where one
linear solve gets at once; with 8 prompts per adapter it never does. The penalty and the kernel's width come
from leaving out training rows, each with its copies, the scale of the logits from the validation rows.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from attrs import frozen

from adapters.router.bank_fitting import main_directions, rounded, spread
from adapters.router.lexical import Lexicon
from adapters.router.ridge import (
    MAX_EXACT_ROWS,
    PENALTIES,
    balanced_rows,
    best_scale,
    leave_one_out,
    one_thread,
    row_weights,
    solve,
    targets,
)
from adapters.router.router_heads import cosine_kernel, standardised, unit_rows
from application.ports import HeadProblem

GAMMAS = (0.5, 1.0, 2.0)
LINEAR_PENALTIES = (0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0)
LEXICAL_WEIGHT = 0.15
"""Share of letters and words in the kernel; more than 0.3 loses (docs/experiments.md)."""

MAX_SUPPORT = 4096
"""Most texts that a kernel head compares a text with."""

DIRECTION_ROWS = 1500
"""At most so many rows decide the directions in which a kernel head compares."""


@frozen
class HeadSettings:
    """What a closed form is fitted with.

    Attributes:
        penalty: the ridge penalty.
        gamma: sharpness of the kernel; other heads do not use it.
        scale: what turns outputs of about 0 to 1 into logits.
    """

    penalty: float = 0.0
    gamma: float = 0.0
    scale: float = 1.0


@frozen(eq=False)
class StartingPoint:
    """A head before its first step.

    Attributes:
        train: what its trainable part reads of each training row, float32 (n_train, D).
        val: the same of each validation row, (n_val, D).
        fixed: router tensors that training does not change.
        weights: router tensors that it does.
        settings: what they were fitted with.
    """

    train: np.ndarray
    val: np.ndarray
    fixed: Mapping[str, np.ndarray]
    weights: Mapping[str, np.ndarray]
    settings: HeadSettings = HeadSettings()


def linear_start(problem: HeadProblem, like: HeadSettings | None = None) -> StartingPoint:
    """Ridge regression on standardised features: ``head.weight`` (K, F), ``head.bias`` (K,)."""
    train, val, fixed = standardised(problem)
    labels, width, outputs = problem.train.labels, train.shape[1], problem.n_labels + 1
    with one_thread():
        penalty = like.penalty if like else _linear_penalty(problem, train)
        constant = np.ones((len(train), 1))  # its weight is the bias
        design = np.concatenate([train.astype(np.float64) / np.sqrt(width), constant], axis=1)
        if len(design) <= width:
            primal = design.T @ solve(design @ design.T, labels, outputs, penalty)  # (F + 1, K)
        else:
            weighted = design.T * row_weights(labels)
            primal = np.linalg.solve(
                weighted @ design + penalty * np.eye(width + 1), weighted @ targets(labels, outputs)
            )
        weight, bias = primal[:-1].T / np.sqrt(width), primal[-1]  # (K, F), (K,)
        scale = _scale(problem, val @ weight.T + bias, like)
    weights = _affine(scale * weight) | {"head.bias": (scale * bias).astype(np.float32)}
    return StartingPoint(train, val, fixed, weights, HeadSettings(penalty, 0.0, scale))


def _linear_penalty(problem: HeadProblem, train: np.ndarray) -> float:
    rows = balanced_rows(problem.train.labels, MAX_EXACT_ROWS)
    some = train[rows].astype(np.float64)
    kernel = some @ some.T / train.shape[1] + 1.0
    return leave_one_out(kernel, *_judged(problem, rows), LINEAR_PENALTIES, _groups(problem, rows)).penalty


def kernel_start(problem: HeadProblem, like: HeadSettings | None = None) -> StartingPoint:
    """Kernel ridge regression on states and letters; tensors as in :data:`adapters.router.router_heads.HEADS`."""
    train, val, fixed = standardised(problem)
    labels, outputs = problem.train.labels, problem.n_labels + 1
    with one_thread():
        units = unit_rows(train)
        rows = np.asarray(balanced_rows(labels, MAX_SUPPORT))
        projection = rounded(main_directions(units[spread(rows, DIRECTION_ROWS)]))  # (D, F)
        points = rounded(units @ projection.T)  # (n, D)
        lexicon = Lexicon.of([problem.train.texts[row] for row in rows])
        words = lexicon.matrix(problem.train.texts)  # (n, V), sparse
        gamma, penalty = (like.gamma, like.penalty) if like else _kernel_settings(problem, points, words)
        support = points[rows]
        states = np.float32(1 - LEXICAL_WEIGHT) * cosine_kernel(points, support, gamma)  # (n, S)
        known = words[rows]
        kernel = states[rows].astype(np.float64) + LEXICAL_WEIGHT * (known @ known.T).toarray()
        dual = solve(kernel, [labels[row] for row in rows], outputs, penalty)  # (S, K)
        lexical = np.asarray(LEXICAL_WEIGHT * (known.T @ dual), np.float32)  # (V, K)
        val_points = unit_rows(val) @ projection.T
        val_states = np.float32(1 - LEXICAL_WEIGHT) * cosine_kernel(val_points, support, gamma)
        val_words = lexicon.apply(problem.val.texts, lexical)  # (n_val, K)
        scale = _scale(problem, val_states @ dual + val_words, like)
    fixed |= {
        "head.projection": projection.astype(np.float16),
        "head.support": support.astype(np.float16),
        "head.gamma": np.asarray([gamma], np.float32),
        "head.lexicon": lexicon.grams,
        "head.idf": lexicon.idf,
        "head.lexical": (scale * lexical.T).astype(np.float32),
    }
    weights = _affine(scale * (1 - LEXICAL_WEIGHT) * dual.T)
    plain = np.float32(1 / (1 - LEXICAL_WEIGHT))  # the head's own kernel columns have no weight in them
    return StartingPoint(
        np.concatenate([plain * states, np.asarray(words @ (scale * lexical))], axis=1, dtype=np.float32),
        np.concatenate([plain * val_states, scale * val_words], axis=1, dtype=np.float32),
        fixed,
        weights,
        HeadSettings(penalty, gamma, scale),
    )


def _kernel_settings(problem: HeadProblem, points: np.ndarray, words: object) -> tuple[float, float]:
    rows = balanced_rows(problem.train.labels, MAX_EXACT_ROWS)
    some = words[rows]  # type: ignore[index]
    lexical = LEXICAL_WEIGHT * (some @ some.T).toarray()
    tried = []
    for gamma in GAMMAS:
        kernel = (1 - LEXICAL_WEIGHT) * np.asarray(cosine_kernel(points[rows], points[rows], gamma), np.float64)
        found = leave_one_out(kernel + lexical, *_judged(problem, rows), PENALTIES, _groups(problem, rows))
        tried.append((found, gamma))
    best, gamma = min(tried, key=lambda one: one[0].loss)
    return gamma, best.penalty


def _judged(problem: HeadProblem, rows: list[int]) -> tuple[list[int], int]:
    return [problem.train.labels[row] for row in rows], problem.n_labels + 1


def _groups(problem: HeadProblem, rows: list[int]) -> list[int]:
    return [problem.train.groups[row] for row in rows] if problem.train.groups else []


def _scale(problem: HeadProblem, outputs: np.ndarray, like: HeadSettings | None) -> float:
    """Return the logit scale that fits the validation rows best."""
    if like:
        return like.scale
    return best_scale(np.asarray(outputs, np.float64)[:, : problem.n_labels], problem.val.labels)[0]


def _affine(weights: np.ndarray) -> dict[str, np.ndarray]:
    return {"head.weight": weights.astype(np.float32), "head.bias": np.zeros(len(weights), np.float32)}
