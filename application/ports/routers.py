"""Ports around a trained router: keeping it, and asking it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

from attrs import frozen

from domain.features import FeatureSpec, Matrix
from domain.labels import LabelMap
from domain.router import RouterCard
from domain.routing import AbstentionThresholds, RouteScores


@frozen(eq=False)
class TrainedRouter:
    """A router ready to score features.

    Attributes:
        card: what it is and what it expects.
        tensors: its numbers by name, as the head that `card.head` names defines them; the feature scaling
            (``feature.mean``, ``feature.scale``) and the bank of known prompts (``bank.features``,
            ``bank.labels``) and out-of-scope examples (``bank.strangers``) included.
        bank_texts: the training and validation prompts behind the rows of ``bank.features``, in the same order.
        sha256: its version: set by the store when it loads a router (64 hexadecimal digits), None before.
    """

    card: RouterCard
    tensors: Mapping[str, Matrix]
    bank_texts: tuple[str, ...] = ()
    sha256: str | None = None

    @property
    def n_examples(self) -> int:
        """Number of out-of-scope examples that it remembers: their features, not their texts."""
        return len(self.tensors.get("bank.strangers", ()))


class RouterStore(Protocol):
    """Keeps trained routers.

    The contract: `load` returns exactly what `save` was given, or raises; a save is complete or did not happen;
    loading runs no code from the file.
    """

    def check_target(self, target: Path) -> None:
        """Raise when a save to `target` is known to fail; touches nothing. For asking before long work.

        Raises:
            UsageError: `target` does not name a form that this store can write, or a place that it can write to.
            TargetExistsError: what is there is not a router and is not replaced.
            StorageError: the file system cannot take anything now.
        """
        ...

    def replaced_by(self, target: Path) -> tuple[Path, ...]:
        """Return what a save to `target` would replace; empty when nothing is there."""
        ...

    def save(self, router: TrainedRouter, target: Path) -> Path:
        """Write the router to `target`, replacing what is there; return the path to load it from.

        That path differs from `target` where `target` asks for a form that is never read back (``.pt``).

        Raises:
            RouterFileError: the router's tensors do not fit its card.
            UsageError: `target` does not name a form that this store can write.
            StorageError: the file system refused.
        """
        ...

    def load(self, source: Path) -> TrainedRouter:
        """Read a router back.

        Raises:
            MissingFileError: nothing is there.
            RouterFileError: what is there is damaged, incomplete, unsafe or not a router.
        """
        ...


class RouterScorer(Protocol):
    """Applies a trained router to features: scaling, head, temperature, out-of-scope score, nearest prompts.

    The contract: row i of the result depends on row i of the features only, and is the same for one row alone
    as within a batch (to float32 rounding).
    """

    def score(self, router: TrainedRouter, features: Matrix, *, nearest: int = 0) -> list[RouteScores]:
        """Return scores for features of shape ``(n, card.features.n_features)``, with `nearest` prompts each.

        Raises MismatchError when the number of features differs from what the router was trained on.
        """
        ...


@frozen(eq=False)
class LabelledFeatures:
    """Prompts with their features and labels, row by row.

    Attributes:
        features: raw (not standardised) float32 features, ``(n, n_features)``.
        labels: label of each row.
        texts: prompt of each row.
    """

    features: Matrix
    labels: tuple[int, ...]
    texts: tuple[str, ...]


@frozen(eq=False)
class UncalibratedRouter:
    """A trained head that cannot abstain yet.

    Attributes:
        labels: which label means which adapter.
        features: how prompts become features.
        head: kind of head.
        tensors: ``feature.mean``, ``feature.scale`` and the head's own.
        left_out: logits that each training row would get from a head that was not trained on it, ``(n_train, C)``;
            None where they are not known.
    """

    labels: LabelMap
    features: FeatureSpec
    head: str
    tensors: Mapping[str, Matrix]
    left_out: Matrix | None = None


@frozen(eq=False)
class Calibration:
    """What makes a trained head's scores mean something.

    Attributes:
        temperature: the head's logits are to be divided by this; positive.
        thresholds: when to abstain.
        tensors: further tensors for the router (``bank.…``); to be merged with the head's.
        bank_texts: the training and validation prompts behind the bank's rows.
        notes: what a person should know of the fit, such as a target that the validation rows cannot show.
    """

    temperature: float
    thresholds: AbstentionThresholds
    tensors: Mapping[str, Matrix]
    bank_texts: tuple[str, ...]
    notes: tuple[str, ...] = ()


class RouterCalibrator(Protocol):
    """Fits confidence, out-of-scope score and abstention to a trained head.

    The contract: the result depends on the arguments only (same arguments, same bits); the temperature is
    finite and positive; the head's tensors are not touched, and none of the new tensors has a head's name; bank
    rows are training and validation rows. A router assembled from the head and the calibration can be scored and
    saved.
    """

    def calibrate(
        self,
        router: UncalibratedRouter,
        train: LabelledFeatures,
        val: LabelledFeatures,
        *,
        target_error: float,
        out_of_scope: Matrix | None = None,
    ) -> Calibration:
        """Return the calibration.

        Args:
            router: the trained head.
            train: the rows that the head was trained on.
            val: rows that it was not trained on, at least one.
            target_error: share of wrong answers among the prompts that are answered, 0 to 1.
            out_of_scope: raw features of prompts that belong to no adapter, ``(n, n_features)``, or None.
        """
        ...
