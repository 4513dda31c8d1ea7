"""Where each kind of head starts from: a solution in closed form, so that gradient steps only refine it.

A head that starts at random needs hundreds of labelled prompts and a well-chosen learning rate to get where one
linear solve gets at once; with 8 prompts per adapter it never does. The penalty and the kernel's width come
from leave-one-out on the training rows, the scale of the logits from the validation rows.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from attrs import frozen

from adapters.router.numpy_probe import PENALTIES, scaling
from adapters.router.ridge import (
    MAX_EXACT_ROWS,
    LeaveOneOut,
    balanced_rows,
    best_scale,
    leave_one_out,
    one_thread,
    solve,
    targets,
)
from adapters.router.router_heads import cosine_kernel, unit_rows
from application.ports import HeadProblem

GAMMAS = (0.5, 1.0, 2.0, 4.0)
LINEAR_PENALTIES = (0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0)
MAX_SUPPORT = 2048
"""Most training prompts that a kernel head compares a prompt with."""

LEFT_OUT_ROWS = 4
"""Training rows per label from which on left-out rows tell how sure a head may be. With fewer, what is missing is
felt too much: where each label has one row, every left-out row is taken for another label."""


@frozen(eq=False)
class StartingPoint:
    """A head before its first step.

    Attributes:
        train: what its trainable part reads of each training row, float32 (n_train, D).
        val: the same of each validation row, (n_val, D).
        fixed: router tensors that training does not change.
        weights: router tensors that it does.
        left_out: logits that each training row would get had it not been fitted, (n_train, C), or None: exact, for
            from `LEFT_OUT_ROWS` per label up to `MAX_EXACT_ROWS` in all; with more there are validation rows enough.
    """

    train: np.ndarray
    val: np.ndarray
    fixed: Mapping[str, np.ndarray]
    weights: Mapping[str, np.ndarray]
    left_out: np.ndarray | None = None


def standardised(problem: HeadProblem) -> tuple[np.ndarray, np.ndarray, dict[str, np.ndarray]]:
    """Return the training rows (n_train, F) and validation rows (n_val, F), standardised, and the scaling used."""
    mean, scale = scaling(problem.train_features)
    train = (np.asarray(problem.train_features, np.float32) - mean) / scale
    val = (np.asarray(problem.val_features, np.float32) - mean) / scale
    return train, val, {"feature.mean": mean, "feature.scale": scale}


def linear_start(problem: HeadProblem) -> StartingPoint:
    """Ridge regression on standardised features: ``head.weight`` (C, F), ``head.bias`` (C,)."""
    train, val, fixed = standardised(problem)
    labels, width = problem.train_labels, train.shape[1]
    with one_thread():
        rows = balanced_rows(labels, MAX_EXACT_ROWS)
        some = train[rows].astype(np.float64)
        picked = leave_one_out(
            some @ some.T / width, [labels[row] for row in rows], problem.n_labels, LINEAR_PENALTIES
        )
        design = train.astype(np.float64) / np.sqrt(width)
        if len(design) <= width:
            primal = design.T @ solve(design @ design.T, labels, problem.n_labels, picked.penalty)  # (F, C)
        else:
            centred, _ = targets(labels, problem.n_labels)
            primal = np.linalg.solve(design.T @ design + picked.penalty * np.eye(width), design.T @ centred)
        scaled = _scaled(problem, val, primal.T / np.sqrt(width))  # (C, F)
        return StartingPoint(train, val, fixed, scaled, _left_out(picked, len(labels), scaled))


def kernel_start(problem: HeadProblem) -> StartingPoint:
    """Kernel ridge regression: ``head.support`` (S, F), ``head.gamma`` (1,), ``head.weight`` (C, S)."""
    train, val, fixed = standardised(problem)
    labels = problem.train_labels
    with one_thread():
        units = unit_rows(train)
        gamma, picked = _kernel_settings(units, problem)
        support_rows = balanced_rows(labels, MAX_SUPPORT)
        support = units[support_rows]
        train_design = cosine_kernel(units, support, gamma)  # (n, S)
        val_design = cosine_kernel(unit_rows(val), support, gamma)
        if len(support) == len(units):
            dual = solve(train_design.astype(np.float64), labels, problem.n_labels, picked.penalty)  # (S, C)
        else:
            dual = _subset_of_regressors(train_design.astype(np.float64), support_rows, problem, picked.penalty)
        weights = _scaled(problem, val_design, dual.T)
    fixed |= {"head.support": support, "head.gamma": np.asarray([gamma], np.float32)}
    return StartingPoint(train_design, val_design, fixed, weights, _left_out(picked, len(labels), weights))


def _kernel_settings(units: np.ndarray, problem: HeadProblem) -> tuple[float, LeaveOneOut]:
    rows = balanced_rows(problem.train_labels, MAX_EXACT_ROWS)
    labels = [problem.train_labels[row] for row in rows]
    tried = []
    for gamma in GAMMAS:
        kernel = np.asarray(cosine_kernel(units[rows], units[rows], gamma), np.float64)
        tried.append((leave_one_out(kernel, labels, problem.n_labels, PENALTIES), gamma))
    best, gamma = min(tried, key=lambda one: one[0].loss)
    return gamma, best


def _subset_of_regressors(
    design: np.ndarray, support_rows: list[int], problem: HeadProblem, penalty: float
) -> np.ndarray:
    """Fit all rows through some of them (Rasmussen & Williams 2006, section 8.3.1); (n, S) -> (S, C)."""
    centred, _ = targets(problem.train_labels, problem.n_labels)
    inner = design[support_rows]  # (S, S)
    jitter = 1e-8 * len(inner) * np.eye(len(inner))
    return np.asarray(np.linalg.solve(design.T @ design + penalty * inner + jitter, design.T @ centred))


def _left_out(picked: LeaveOneOut, n_train: int, weights: Mapping[str, np.ndarray]) -> np.ndarray | None:
    n_labels = picked.outputs.shape[1]
    if len(picked.outputs) < n_train or n_train < LEFT_OUT_ROWS * n_labels:
        return None
    scale = float(weights["head.bias"].sum())  # the bias is the shares of the labels, which add up to 1, times it
    return np.asarray(scale * picked.outputs, np.float32)


def _scaled(problem: HeadProblem, val_design: np.ndarray, weights: np.ndarray) -> dict[str, np.ndarray]:
    """Turn regression weights (C, D) into a classifier's, at the scale that fits the validation rows best."""
    _, share = targets(problem.train_labels, problem.n_labels)
    outputs = val_design.astype(np.float64) @ weights.T + share  # (n_val, C)
    scale, _ = best_scale(outputs, problem.val_labels)
    return {
        "head.weight": (scale * weights).astype(np.float32),
        "head.bias": (scale * share).astype(np.float32),
    }
