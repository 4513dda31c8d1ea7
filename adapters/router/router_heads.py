"""What a router's tensors mean: the head kinds, their shapes, and their forward pass in numpy.

A head is a small classifier on standardised features, ``z = (x - feature.mean) / feature.scale``. Training,
calibration and serving all call :func:`head_logits`, so that they cannot disagree. A new kind of head is one
more entry of :data:`HEADS` (plus its training in ``adapters.router.torch_heads``); nothing else here changes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

import numpy as np
from attrs import frozen
from numpy.typing import NDArray

from domain.errors import RouterFileError, UsageError

Array = NDArray[np.float32]

SCALING: Final[Mapping[str, tuple[str, ...]]] = {"feature.mean": ("F",), "feature.scale": ("F",)}
"""Tensors that every kind of head has beside its own: the standardisation of the features."""


@frozen
class HeadKind:
    """One kind of head.

    Attributes:
        shapes: shape of each of its tensors, with F for the number of features, C for the number of labels, 1 for
            one, and any other letter for a width that the tensors themselves decide.
        forward: standardised features (n, F) and the tensors to logits (n, C).
    """

    shapes: Mapping[str, tuple[str, ...]]
    forward: Callable[[Array, Mapping[str, Any]], Array]


def _linear(features: Array, tensors: Mapping[str, Any]) -> Array:
    return np.asarray(features @ tensors["head.weight"].T + tensors["head.bias"])  # (n, F) -> (n, C)


def _mlp(features: Array, tensors: Mapping[str, Any]) -> Array:
    hidden = np.maximum(features @ tensors["head.0.weight"].T + tensors["head.0.bias"], 0.0)  # (n, F) -> (n, H)
    return np.asarray(hidden @ tensors["head.1.weight"].T + tensors["head.1.bias"])  # (n, H) -> (n, C)


def unit_rows(features: Any) -> Array:
    """Return rows scaled to Euclidean length 1; a row of zeros stays zero. (n, F) -> (n, F)."""
    rows = np.asarray(features, np.float32)
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    return np.asarray(rows / np.where(lengths > 0, lengths, 1.0), np.float32)


def cosine_kernel(left: Any, right: Any, gamma: float) -> Array:
    """Return ``exp(gamma * (cos(a, b) - 1))`` for unit rows (n, F) and (m, F): (n, m), 1 for equal rows.

    On unit rows this is the Gaussian (RBF) kernel, since ``|a - b|² = 2 - 2 cos(a, b)``.
    """
    return np.asarray(np.exp(np.float32(gamma) * (np.asarray(left) @ np.asarray(right).T - np.float32(1.0))))


def _kernel(features: Array, tensors: Mapping[str, Any]) -> Array:
    gamma = float(np.asarray(tensors["head.gamma"])[0])
    similarity = cosine_kernel(unit_rows(features), tensors["head.support"], gamma)  # (n, F) -> (n, S)
    return np.asarray(similarity @ tensors["head.weight"].T + tensors["head.bias"])  # (n, S) -> (n, C)


HEADS: Final[Mapping[str, HeadKind]] = {
    "linear": HeadKind({"head.weight": ("C", "F"), "head.bias": ("C",)}, _linear),
    "mlp": HeadKind(
        {"head.0.weight": ("H", "F"), "head.0.bias": ("H",), "head.1.weight": ("C", "H"), "head.1.bias": ("C",)},
        _mlp,
    ),
    # Rows of head.support are unit-length standardised features of training prompts.
    "kernel": HeadKind(
        {"head.support": ("S", "F"), "head.gamma": ("1",), "head.weight": ("C", "S"), "head.bias": ("C",)},
        _kernel,
    ),
}
"""The kinds of heads by the name that ``RouterCard.head`` gives them."""


def head_kind(kind: str) -> HeadKind:
    """Return the head kind of this name; raises UsageError naming the known ones."""
    if kind not in HEADS:
        raise UsageError(f"unknown kind of router head {kind!r}", hint=f"known: {', '.join(HEADS)}")
    return HEADS[kind]


def standardise(tensors: Mapping[str, Any], features: Any) -> Array:
    """Return features (n, F) centred on ``feature.mean`` and divided by ``feature.scale``, as float32."""
    return np.asarray(
        (np.asarray(features, np.float32) - tensors["feature.mean"]) / tensors["feature.scale"], np.float32
    )


def head_logits(kind: str, tensors: Mapping[str, Any], features: Any) -> Array:
    """Return the head's logits, before any temperature.

    Args:
        kind: name of the head kind, as in ``RouterCard.head``.
        tensors: the router's tensors; tensors that the head does not use are ignored.
        features: raw (not standardised) features, (n, F).

    Returns:
        float32 logits, (n, C).

    Raises:
        UsageError: the kind is unknown.
    """
    return np.asarray(head_kind(kind).forward(standardise(tensors, features), tensors), np.float32)


def softmax(logits: NDArray[Any]) -> NDArray[np.float64]:
    """Return the softmax over the last axis, computed in float64."""
    shifted = logits.astype(np.float64) - logits.max(axis=-1, keepdims=True)
    exponentials = np.exp(shifted)
    return np.asarray(exponentials / exponentials.sum(axis=-1, keepdims=True))


def log_sum_exp(logits: NDArray[Any]) -> NDArray[np.float64]:
    """Return log(sum(exp(logits))) over the last axis, computed in float64: the evidence behind a softmax."""
    top = logits.max(axis=-1).astype(np.float64)
    return np.asarray(top + np.log(np.exp(logits.astype(np.float64) - top[..., None]).sum(axis=-1)))


def check_head_tensors(kind: str, tensors: Mapping[str, Any], *, n_features: int, n_labels: int) -> None:
    """Raise RouterFileError unless the head's tensors are all there, of the right shapes, finite and usable.

    Args:
        kind: name of the head kind.
        tensors: the router's tensors; those outside ``feature.`` and ``head.`` are not looked at.
        n_features: F, from the router's feature specification.
        n_labels: C, from the router's label map.
    """
    if kind not in HEADS:
        raise RouterFileError(f"unknown kind of router head {kind!r}; this version knows {', '.join(HEADS)}")
    expected = {**SCALING, **HEADS[kind].shapes}
    found = {name for name in tensors if name.startswith(("feature.", "head."))}
    if missing := sorted(set(expected) - found):
        raise RouterFileError(f"{kind} head lacks the tensor {missing[0]}")
    if extra := sorted(found - set(expected)):
        raise RouterFileError(f"{kind} head has the unexpected tensor {extra[0]}")
    sizes = {"F": n_features, "C": n_labels, "1": 1}
    for name, symbols in expected.items():
        _check_tensor(name, tensors[name], symbols, sizes)
    if not np.all(np.asarray(tensors["feature.scale"]) > 0):
        raise RouterFileError("tensor feature.scale has values that are not positive")


def _check_tensor(name: str, tensor: Any, symbols: tuple[str, ...], sizes: dict[str, int]) -> None:
    shape = tuple(tensor.shape)
    if len(shape) == len(symbols):
        for symbol, size in zip(symbols, shape, strict=True):
            sizes.setdefault(symbol, size)  # a free width is what the first tensor that has it says
    expected = tuple(sizes.get(symbol, "?") for symbol in symbols)
    if shape != expected:
        raise RouterFileError(f"tensor {name} has shape {list(shape)}, expected {list(expected)}")
    if not np.all(np.isfinite(np.asarray(tensor))):
        raise RouterFileError(f"tensor {name} has values that are not finite")
