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
class LabelledTexts:
    """Texts with their features and labels, row by row.

    Attributes:
        features: raw (not standardised) float32 features, ``(n, n_features)``.
        texts: what the features were made of.
        labels: label of each text; the number of labels stands for "belongs to none".
        groups: texts of one group are left out together; empty where each is by itself.
    """

    features: Matrix
    texts: tuple[str, ...]
    labels: tuple[int, ...]
    groups: tuple[int, ...] = ()


@frozen(eq=False)
class HeadProblem:
    """What a head is trained on.

    Attributes:
        train: texts to train on; some may belong to none of the labels.
        val: texts to validate on; each has a label.
        n_labels: number of labels.
        seed: decides every random choice.
    """

    train: LabelledTexts
    val: LabelledTexts
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
        probabilities: ``(n_val, n_labels)``; "none of them" is left out of account.
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

    def start(
        self, kind: str, problem: HeadProblem, learning_rate: float, like: HeadSession | None = None
    ) -> HeadSession:
        """Initialise a head, which may already fit the training rows; raises UsageError for an unknown kind.

        Args:
            kind: one of `kinds`.
            problem: what to train on.
            learning_rate: of the first step.
            like: a session of this trainer and kind whose settings (penalty, kernel width, scale) are taken over, so
                that heads of several problems can be compared; None chooses them on this problem.
        """
        ...

    def logits(self, kind: str, tensors: Mapping[str, Matrix], features: Matrix, texts: Sequence[str]) -> Matrix:
        """Return the logits ``(n, n_labels + 1)`` of a head with these router tensors; "none" comes last."""
        ...
