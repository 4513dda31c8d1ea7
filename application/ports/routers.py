"""Ports around a trained router: keeping it, and asking it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

from attrs import frozen

from domain.features import Matrix
from domain.router import RouterCard
from domain.routing import RouteScores


@frozen(eq=False)
class TrainedRouter:
    """A router ready to score features.

    Attributes:
        card: what it is and what it expects.
        tensors: its numbers by name, as the head that `card.head` names defines them; the feature scaling
            (``feature.mean``, ``feature.scale``) and the bank of training prompts (``bank.features``,
            ``bank.labels``) included.
        bank_texts: the training prompts behind the rows of ``bank.features``, in the same order.
    """

    card: RouterCard
    tensors: Mapping[str, Matrix]
    bank_texts: tuple[str, ...] = ()


class RouterStore(Protocol):
    """Keeps trained routers.

    The contract: `load` returns exactly what `save` was given, or raises; a save is complete or did not happen;
    loading runs no code from the file.
    """

    def save(self, router: TrainedRouter, target: Path) -> None:
        """Write the router to `target`, replacing what is there; raises StorageError."""
        ...

    def load(self, source: Path) -> TrainedRouter:
        """Read a router back.

        Raises:
            MissingFileError: nothing is there.
            RouterFileError: what is there is damaged, incomplete, unsafe or no router.
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
