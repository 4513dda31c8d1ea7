"""What the router reads of a prompt: pooled hidden states of the frozen base model."""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum
from typing import Any, Protocol

from attrs import field, frozen

from domain.errors import MismatchError, UsageError


class Pooling(StrEnum):
    """How the states of a prompt's tokens become one vector.

    There is no first-token pooling: in a causal model the first token sees nothing of the prompt.
    """

    MEAN = "mean"
    LAST = "last"


@frozen(order=True)
class FeatureTap:
    """One pooled layer.

    Attributes:
        layer: index into the whole model's ``hidden_states``: 0 is the embedding output, k the output of the
            k-th block, and the last entry (number of blocks) the output after the final norm.
        pooling: how tokens are pooled; padding never takes part.
    """

    layer: int
    pooling: Pooling


@frozen
class BaseModel:
    """Which frozen model features come from.

    Attributes:
        name: hub id or folder, as the user gave it; for messages, never compared.
        fingerprint: hash over the architecture and weights; equal exactly when features are comparable.
        n_layers: number of blocks.
        hidden_size: width of one hidden state.
    """

    name: str
    fingerprint: str
    n_layers: int
    hidden_size: int


def _layers(values: Iterable[int]) -> tuple[int, ...]:
    return tuple(values)


@frozen
class FeatureSpec:
    """Everything that decides a feature vector except the prompt.

    Attributes:
        base: the frozen model.
        layers: indices into ``hidden_states`` (see :class:`FeatureTap`), ascending; their pooled vectors are
            concatenated in this order.
        pooling: one pooling for all layers.
        max_tokens: prompts are cut after this many tokens (the beginning is kept).
    """

    base: BaseModel
    layers: tuple[int, ...] = field(converter=_layers)
    pooling: Pooling = field(default=Pooling.MEAN, converter=Pooling)
    max_tokens: int = 512

    @layers.validator
    def _in_model(self, _attribute: object, value: tuple[int, ...]) -> None:
        if not value or list(value) != sorted(set(value)):
            raise UsageError(f"layers {list(value)} are not a non-empty ascending list without duplicates")
        if value[0] < 0 or value[-1] > self.base.n_layers:
            raise UsageError(
                f"layers {list(value)} are not all in 0..{self.base.n_layers}",
                where=f"base model {self.base.name}",
            )

    @property
    def taps(self) -> tuple[FeatureTap, ...]:
        """The pooled layers, in the order of the features."""
        return tuple(FeatureTap(layer, self.pooling) for layer in self.layers)

    @property
    def n_features(self) -> int:
        """Length of a feature vector."""
        return len(self.layers) * self.base.hidden_size

    def require_same(self, other: FeatureSpec, *, mine: str, theirs: str) -> None:
        """Raise MismatchError, showing both sides, unless both specs give the same features for every prompt."""
        pairs: tuple[tuple[str, object, object], ...] = (
            ("base model", self._base_id(), other._base_id()),
            ("layers", list(self.layers), list(other.layers)),
            ("pooling", str(self.pooling), str(other.pooling)),
            ("token limit", self.max_tokens, other.max_tokens),
        )
        for what, here, there in pairs:
            if here != there:
                raise MismatchError(f"{what} differs: {mine} has {here}, {theirs} has {there}")

    def _base_id(self) -> str:
        return f"{self.base.fingerprint[:16]} (hidden size {self.base.hidden_size})"


class Matrix(Protocol):
    """Rows of numbers that the inner layers hand on without looking inside (in practice a float32 numpy array)."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Size along each axis."""
        ...

    def __len__(self) -> int: ...

    def __getitem__(self, key: Any, /) -> Any: ...

    def sum(self) -> Any:
        """Total of all numbers; not finite when one of them is not."""
        ...
