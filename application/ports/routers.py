"""Ports around a trained router: keeping it, and asking it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

from attrs import frozen

from domain.features import FeatureSpec, Matrix
from domain.labels import LabelMap
from domain.router import RouterCard
from domain.routing import AbstentionThresholds, RouteScores
from domain.trade_off import TradeOff


@frozen(eq=False)
class TrainedRouter:
    """A router ready to score features.

    Attributes:
        card: what it is and what it expects.
        tensors: its numbers by name, as the head that `card.head` names defines them; the feature scaling
            (``feature.mean``, ``feature.scale``) and the bank of known prompts (``bank.features``,
            ``bank.labels``), background phrases and out-of-scope prompts included.
        bank_texts: the prompts of the data behind the rows of ``bank.features``, in the same order.
        sha256: its version: set by the store when it loads a router (64 hexadecimal digits), None before.
    """

    card: RouterCard
    tensors: Mapping[str, Matrix]
    bank_texts: tuple[str, ...] = ()
    sha256: str | None = None


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

    The contract: the scores of a prompt depend on its own pieces only, and are the same for one prompt alone as
    within a batch (to float32 rounding). Pieces that say nothing of their own leave the decision to the others.
    """

    def score(
        self,
        router: TrainedRouter,
        features: Matrix,
        texts: Sequence[str],
        sizes: Sequence[int],
        *,
        nearest: int = 0,
    ) -> list[RouteScores]:
        """Return the scores of prompts, each given as its pieces.

        Args:
            router: the router.
            features: of all pieces, prompt by prompt, ``(n, card.features.n_features)``.
            texts: the pieces.
            sizes: how many pieces each prompt has, 1 or more; they add up to n.
            nearest: how many remembered prompts to show with each, 0 or more; what an adapter has several times is
                shown once.

        Raises:
            MismatchError: the number of features differs from what the router was trained on.
        """
        ...


@frozen(eq=False)
class KnownTexts:
    """Texts that a router remembers, with their features, row by row.

    Attributes:
        features: raw (not standardised) float32 features, ``(n, n_features)``.
        texts: what the features were made of.
        labels: label of each; empty for texts that belong to none.
        folds: which left-out fold each belongs to.
    """

    features: Matrix
    texts: tuple[str, ...]
    labels: tuple[int, ...]
    folds: tuple[int, ...]


@frozen(eq=False)
class LeftOutFold:
    """Prompts as they fare with a head that knows neither them nor anything else of their fold.

    Attributes:
        logits: of all pieces, prompt by prompt, ``(n, n_labels + 1)``, before any temperature.
        features: of the pieces, ``(n, n_features)``.
        sizes: how many pieces each prompt has.
        labels: label of each prompt; the number of labels stands for "belongs to none".
        changed: whether the prompt is a changed copy of one in the data.
        weights: how much each prompt counts, 0 to 1, where labels are doubtful; empty where all count alike.
    """

    logits: Matrix
    features: Matrix
    sizes: tuple[int, ...]
    labels: tuple[int, ...]
    changed: tuple[bool, ...]
    weights: tuple[float, ...] = ()


@frozen(eq=False)
class UncalibratedRouter:
    """A trained head that cannot abstain yet, and what it should remember.

    Attributes:
        labels: which label means which adapter.
        features: how texts become features.
        head: kind of head.
        tensors: ``feature.mean``, ``feature.scale`` and the head's own.
        known: what the data's prompts say: the pieces that carry their labels.
        background: phrases that accompany requests and ask for nothing.
        out_of_scope: prompts that belong to no adapter.
    """

    labels: LabelMap
    features: FeatureSpec
    head: str
    tensors: Mapping[str, Matrix]
    known: KnownTexts
    background: KnownTexts
    out_of_scope: KnownTexts


@frozen(eq=False)
class Calibration:
    """What makes a trained head's scores mean something.

    Attributes:
        temperature: the head's logits are to be divided by this; positive.
        thresholds: when to abstain.
        target_error: the error rate that they are fitted to, 0 to 1.
        tensors: further tensors for the router (``bank.…``), and where labels have unlike numbers of rows another
            bias for the head; to be merged over the head's.
        bank_texts: the prompts behind the bank's rows.
        trade_off: what other limits would do.
        notes: what a person should know of the fit, such as a target that the left-out prompts cannot show.
    """

    temperature: float
    thresholds: AbstentionThresholds
    target_error: float
    tensors: Mapping[str, Matrix]
    bank_texts: tuple[str, ...]
    trade_off: tuple[TradeOff, ...] = ()
    notes: tuple[str, ...] = ()


class RouterCalibrator(Protocol):
    """Fits confidence, out-of-scope score and abstention to a trained head.

    The contract: the result depends on the arguments only (same arguments, same bits); the temperature is finite and
    positive; the head's tensors are not touched, and none of the new tensors has a head's name but the bias of its
    outputs; bank rows are known texts. A router assembled from the head and the calibration can be scored and saved.
    """

    def calibrate(
        self,
        router: UncalibratedRouter,
        left_out: Sequence[LeftOutFold],
        *,
        target_error: float | None,
        cleaned: bool = False,
    ) -> Calibration:
        """Return the calibration.

        Args:
            router: the trained head and what it knows.
            left_out: prompts that heads without them were asked about, one entry per fold; some in-scope prompt
                at least.
            target_error: share of wrong answers among the prompts that are answered, 0 to 1; None to choose it by
                the data, see :func:`domain.abstention.fit_thresholds`.
            cleaned: whether mislabelled rows have been found already, and count by the folds' weights.
        """
        ...
