"""Ports around fitting a router head: judging features, and training step by step."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from attrs import frozen

from domain.features import Matrix


@frozen
class ProbeScore:
    """How well features tell the adapters apart, by a quick cross-validated classifier.

    Attributes:
        loss: cross-validated loss, lower is better; comparable between features of the same rows.
        accuracy: cross-validated accuracy, 0 to 1.
    """

    loss: float
    accuracy: float


class FeatureProbe(Protocol):
    """Judges features in a moment, to choose layers and pooling by.

    The contract: the score depends on the arguments only (same arguments, same score), every row is judged by a
    classifier that has not seen it, and features that separate the labels score better than noise.
    """

    def score(self, features: Matrix, labels: Sequence[int], n_labels: int) -> ProbeScore:
        """Return the score of features ``(n, n_features)`` whose rows have these labels, at least two rows."""
        ...


@frozen(eq=False)
class HeadProblem:
    """What a head is trained on.

    Attributes:
        train_features: raw (not standardised) float32 features, ``(n_train, n_features)``.
        train_labels: label of each training row.
        val_features: raw float32 features, ``(n_val, n_features)``.
        val_labels: label of each validation row.
        n_labels: number of labels.
        seed: decides every random choice.
    """

    train_features: Matrix
    train_labels: tuple[int, ...]
    val_features: Matrix
    val_labels: tuple[int, ...]
    n_labels: int
    seed: int


@frozen
class StepResult:
    """One training step, measured before its update.

    Attributes:
        loss: mean cross entropy over the rows of the step, in nats.
        correct: rows that the head got right.
    """

    loss: float
    correct: int


@frozen(eq=False)
class HeadEvaluation:
    """The head on the validation rows.

    Attributes:
        loss: mean cross entropy, in nats.
        accuracy: share of rows that the head gets right, 0 to 1.
        probabilities: ``(n_val, n_labels)``.
    """

    loss: float
    accuracy: float
    probabilities: Matrix


class HeadSession(Protocol):
    """One head in training.

    The contract: with the same problem, the same calls give the same bits. A session restored from another's
    snapshot goes on exactly as that one would have. Arrays that are handed out are copies.
    """

    def train_step(self, rows: Sequence[int]) -> StepResult:
        """Make one optimiser step on these training rows."""
        ...

    def evaluate(self) -> HeadEvaluation:
        """Score the validation rows; changes nothing."""
        ...

    def set_learning_rate(self, learning_rate: float) -> None:
        """Use this rate from the next step on."""
        ...

    def snapshot(self) -> Mapping[str, Matrix]:
        """Return weights and optimiser state: all that the session does not get from the problem."""
        ...

    def restore(self, snapshot: Mapping[str, Matrix]) -> None:
        """Go on from a snapshot of a session with the same problem and kind."""
        ...

    def left_out(self, weights: Mapping[str, Matrix]) -> Matrix | None:
        """Return logits of the training rows, each out of a head fitted without it, (n_train, C); None if not known.

        They come from the point where the session started, and are as large as those of a head with these weights,
        so that calibration may use them beside the validation rows.
        """
        ...

    def weights(self) -> Mapping[str, Matrix]:
        """Return the router tensors that training changes, as they are now."""
        ...

    def router_tensors(self, weights: Mapping[str, Matrix]) -> Mapping[str, Matrix]:
        """Return all router tensors of the head with these weights: feature scaling and fixed parts included."""
        ...


class HeadTrainer(Protocol):
    """Knows some kinds of heads, each defined by its router tensors.

    The contract: the tensors of a session are finite, fit the kind, and give the same answers in serving as
    :meth:`HeadSession.evaluate` does.
    """

    @property
    def kinds(self) -> tuple[str, ...]:
        """The kinds of heads it can train; the one to prefer when they do equally well first."""
        ...

    def start(self, kind: str, problem: HeadProblem, learning_rate: float) -> HeadSession:
        """Initialise a head, which may already fit the training rows; raises UsageError for an unknown kind."""
        ...
