"""What a router's tensors mean: the head kinds, their shapes, and their forward pass in numpy.

A head is a small classifier on standardised features, ``z = (x - feature.mean) / feature.scale``. Training,
calibration and serving all use :func:`prepared_head`, so that they cannot disagree. A new kind of head is one
more entry of :data:`HEADS` (plus its training in ``adapters.router.torch_heads``); nothing else here changes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import numpy as np
from attrs import frozen
from numpy.typing import NDArray

from adapters.router.lexical import Lexicon
from application.ports import HeadProblem
from domain.errors import RouterFileError, UsageError

Array = NDArray[np.float32]

SCALING: Final[Mapping[str, tuple[str, ...]]] = {"feature.mean": ("F",), "feature.scale": ("F",)}
"""Tensors that every kind of head has beside its own: the standardisation of the features."""


Forward = Callable[[Array, Sequence[str]], Array]
"""From standardised features (n, F) and the texts behind them to logits (n, K)."""


@frozen
class HeadKind:
    """One kind of head.

    Attributes:
        shapes: shape of each of its tensors, with F for the number of features, K for the number of labels and one
            more ("none of them", the last), 1 for one, and other letters for sizes of its own.
        prepare: from the tensors to the head.
    """

    shapes: Mapping[str, tuple[str, ...]]
    prepare: Callable[[Mapping[str, Any]], Forward]


def _linear(tensors: Mapping[str, Any]) -> Forward:
    weight, bias = (np.asarray(tensors[f"head.{name}"], np.float32) for name in ("weight", "bias"))
    return lambda features, _texts: np.asarray(features @ weight.T + bias)  # (n, F) -> (n, K)


def _mlp(tensors: Mapping[str, Any]) -> Forward:
    layers = [
        np.asarray(tensors[f"head.{name}"], np.float32) for name in ("0.weight", "0.bias", "1.weight", "1.bias")
    ]

    def forward(features: Array, _texts: Sequence[str]) -> Array:
        hidden = np.maximum(features @ layers[0].T + layers[1], 0.0)  # (n, F) -> (n, H)
        return np.asarray(hidden @ layers[2].T + layers[3])  # (n, H) -> (n, K)

    return forward


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


def _kernel(tensors: Mapping[str, Any]) -> Forward:
    """Compare states with those of known texts, and add what letters and words say.

    The kernel is (1 - w) exp(gamma (cos - 1)) + w l with the similarity l of lexical rows. That part is linear in the
    rows, so that its sum over all known texts is one matrix, ``head.lexical`` (K, V); no known text's row is kept.
    """
    projection, support, weight, bias, lexical = (
        np.asarray(tensors[f"head.{name}"], np.float32)
        for name in ("projection", "support", "weight", "bias", "lexical")
    )
    gamma, lexicon = float(np.asarray(tensors["head.gamma"])[0]), Lexicon.from_tensors(tensors)

    def forward(features: Array, texts: Sequence[str]) -> Array:
        similarity = cosine_kernel(unit_rows(features) @ projection.T, support, gamma)  # (n, F) -> (n, S)
        return np.asarray(similarity @ weight.T + bias + lexicon.apply(texts, lexical.T))  # (n, S) -> (n, K)

    return forward


HEADS: Final[Mapping[str, HeadKind]] = {
    "linear": HeadKind({"head.weight": ("K", "F"), "head.bias": ("K",)}, _linear),
    "mlp": HeadKind(
        {"head.0.weight": ("H", "F"), "head.0.bias": ("H",), "head.1.weight": ("K", "H"), "head.1.bias": ("K",)},
        _mlp,
    ),
    # Rows of head.support are unit-length standardised features of known texts, in the directions of the projection.
    "kernel": HeadKind(
        {
            "head.projection": ("D", "F"),
            "head.support": ("S", "D"),
            "head.gamma": ("1",),
            "head.weight": ("K", "S"),
            "head.bias": ("K",),
            "head.lexicon": ("V",),
            "head.idf": ("V",),
            "head.lexical": ("K", "V"),
        },
        _kernel,
    ),
}
"""The kinds of heads by the name that ``RouterCard.head`` gives them."""


def head_kind(kind: str) -> HeadKind:
    """Return the head kind of this name; raises UsageError naming the known ones."""
    if kind not in HEADS:
        raise UsageError(f"unknown kind of router head {kind!r}", hint=f"known: {', '.join(HEADS)}")
    return HEADS[kind]


def shifted(tensors: Mapping[str, Any], shift: Any) -> dict[str, Array]:
    """Return the bias with which a head's logits (n, K) are higher by `shift` (K,), whatever its kind."""
    name = "head.1.bias" if "head.1.bias" in tensors else "head.bias"
    return {name: np.asarray(tensors[name] + shift, np.float32)}


def scaling(features: Any) -> tuple[Array, Array]:
    """Return mean and standard deviation (F,) of each feature; a feature that never varies gets 1."""
    rows = np.asarray(features, np.float64)
    mean, scale = rows.mean(axis=0), rows.std(axis=0)
    floor = 1e-6 * max(float(scale.max(initial=0.0)), 1e-30)
    return mean.astype(np.float32), np.where(scale > floor, scale, 1.0).astype(np.float32)


def standardise(tensors: Mapping[str, Any], features: Any) -> Array:
    """Return features (n, F) centred on ``feature.mean`` and divided by ``feature.scale``, as float32."""
    return np.asarray(
        (np.asarray(features, np.float32) - tensors["feature.mean"]) / tensors["feature.scale"], np.float32
    )


def standardised(problem: HeadProblem) -> tuple[Array, Array, dict[str, NDArray[Any]]]:
    """Return the training rows (n_train, F) and validation rows (n_val, F), standardised, and the scaling used.

    The scaling is that of the rows with a label: what belongs to none is not what the features should spread out.
    """
    labelled = [row for row, label in enumerate(problem.train.labels) if label < problem.n_labels]
    mean, scale = scaling(problem.train.features[labelled])
    tensors: dict[str, NDArray[Any]] = {"feature.mean": mean, "feature.scale": scale}
    return standardise(tensors, problem.train.features), standardise(tensors, problem.val.features), tensors


def prepared_head(kind: str, tensors: Mapping[str, Any]) -> Forward:
    """Return the head, for raw features: (n, F) and texts to float32 logits (n, K), before any temperature.

    Args:
        kind: name of the head kind, as in ``RouterCard.head``.
        tensors: the router's tensors; tensors that the head does not use are ignored.

    Raises:
        UsageError: the kind is unknown.
    """
    forward = head_kind(kind).prepare(tensors)
    return lambda features, texts: np.asarray(forward(standardise(tensors, features), texts), np.float32)


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
        n_labels: K - 1, from the router's label map.
    """
    if kind not in HEADS:
        raise RouterFileError(f"unknown kind of router head {kind!r}; this version knows {', '.join(HEADS)}")
    expected = {**SCALING, **HEADS[kind].shapes}
    found = {name for name in tensors if name.startswith(("feature.", "head."))}
    if missing := sorted(set(expected) - found):
        raise RouterFileError(f"{kind} head lacks the tensor {missing[0]}")
    if extra := sorted(found - set(expected)):
        raise RouterFileError(f"{kind} head has the unexpected tensor {extra[0]}")
    sizes = {"F": n_features, "K": n_labels + 1, "1": 1}
    for name, symbols in expected.items():
        _check_tensor(name, tensors[name], symbols, sizes)
    if not np.all(np.asarray(tensors["feature.scale"]) > 0):
        raise RouterFileError("tensor feature.scale has values that are not positive")
    if "head.lexicon" in expected and np.any(np.diff(np.asarray(tensors["head.lexicon"], np.int64)) <= 0):
        raise RouterFileError("tensor head.lexicon is not ascending")


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
