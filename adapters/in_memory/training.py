"""Training without torch or files: a softmax regression, a probe, checkpoints, metrics and signals in memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from copy import deepcopy
from pathlib import Path

import numpy as np
from attrs import define, field, frozen

from application.ports import (
    Checkpoint,
    HeadEvaluation,
    HeadProblem,
    HeadSession,
    ProbeScore,
    StepResult,
    TrainingObserver,
)
from domain.errors import StorageError, UsageError
from domain.features import Matrix
from domain.training_events import TrainingEvent

_MOMENTUM = 0.9


class SoftmaxSession:
    """A :class:`application.ports.HeadSession`: multinomial logistic regression by gradient descent with momentum.

    Starts from zero weights. Small enough to check by hand; the torch heads are the ones to use.
    """

    def __init__(self, problem: HeadProblem, learning_rate: float) -> None:
        train = np.asarray(problem.train.features, np.float64)
        self._mean, spread = train.mean(axis=0), train.std(axis=0)
        self._scale = np.where(spread > 0, spread, 1.0)
        self._train = (train - self._mean) / self._scale
        self._val = (np.asarray(problem.val.features, np.float64) - self._mean) / self._scale
        self._train_labels, self._val_labels = np.asarray(problem.train.labels), np.asarray(problem.val.labels)
        width = train.shape[1]
        self._weight = np.zeros((problem.n_labels + 1, width + 1), np.float32)  # the last column is the bias
        self._velocity = np.zeros_like(self._weight)
        self._rate = learning_rate

    def train_step(self, rows: Sequence[int]) -> StepResult:
        """Make one step on these training rows."""
        labels = self._train_labels[list(rows)]
        design = _with_one(self._train[list(rows)])
        logits = design @ self._weight.T
        probabilities = _softmax(logits)
        loss = _loss(logits, labels)
        correct = int((logits.argmax(axis=1) == labels).sum())
        error = probabilities.copy()
        error[np.arange(len(labels)), labels] -= 1.0
        self._velocity = (_MOMENTUM * self._velocity + error.T @ design / len(labels)).astype(np.float32)
        self._weight = (self._weight - self._rate * self._velocity).astype(np.float32)
        return StepResult(loss, correct)

    def evaluate(self) -> HeadEvaluation:
        """Score the validation rows."""
        logits = _with_one(self._val) @ self._weight[:-1].T  # "none" is out of account
        right = logits.argmax(axis=1) == self._val_labels
        return HeadEvaluation(
            _loss(logits, self._val_labels), float(right.mean()), _softmax(logits).astype(np.float32)
        )

    def set_learning_rate(self, learning_rate: float) -> None:
        """Use this rate from the next step on."""
        self._rate = learning_rate

    def snapshot(self) -> dict[str, np.ndarray]:
        """Return weights and velocity."""
        return {"weight": self._weight.copy(), "velocity": self._velocity.copy()}

    def restore(self, snapshot: Mapping[str, Matrix]) -> None:
        """Go on from a snapshot."""
        self._weight = np.array(snapshot["weight"])
        self._velocity = np.array(snapshot["velocity"])

    def weights(self) -> dict[str, np.ndarray]:
        """Return ``head.weight`` and ``head.bias``."""
        return {"head.weight": self._weight[:, :-1].copy(), "head.bias": self._weight[:, -1].copy()}

    def router_tensors(self, weights: Mapping[str, Matrix]) -> dict[str, np.ndarray]:
        """Return the scaling and these weights."""
        scaling = {"feature.mean": self._mean, "feature.scale": self._scale}
        return {name: np.array(value, np.float32) for name, value in {**scaling, **weights}.items()}


def _with_one(rows: np.ndarray) -> np.ndarray:
    return np.hstack([rows, np.ones((len(rows), 1))])


def _softmax(logits: np.ndarray) -> np.ndarray:
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=1, keepdims=True))


def _loss(logits: np.ndarray, labels: np.ndarray) -> float:
    shifted = logits - logits.max(axis=1, keepdims=True)
    return float(np.mean(np.log(np.exp(shifted).sum(axis=1)) - shifted[np.arange(len(labels)), labels]))


@frozen
class SoftmaxHeadTrainer:
    """A :class:`application.ports.HeadTrainer` of linear heads.

    Attributes:
        start_session: makes sessions; replace it to make training fail on purpose.
    """

    start_session: Callable[[HeadProblem, float], SoftmaxSession] = SoftmaxSession

    @property
    def kinds(self) -> tuple[str, ...]:
        """Linear heads only."""
        return ("linear",)

    def start(
        self, kind: str, problem: HeadProblem, learning_rate: float, like: HeadSession | None = None
    ) -> SoftmaxSession:
        """Start from zero weights; raises UsageError for another kind."""
        if kind not in self.kinds:
            raise UsageError(f"unknown kind of router head {kind!r}", hint="known: linear")
        return self.start_session(problem, learning_rate)

    def logits(self, kind: str, tensors: Mapping[str, Matrix], features: Matrix, texts: Sequence[str]) -> np.ndarray:
        """Return the logits of a head with these router tensors."""
        rows = (np.asarray(features) - tensors["feature.mean"]) / tensors["feature.scale"]
        return np.asarray(rows @ np.asarray(tensors["head.weight"]).T + tensors["head.bias"], np.float32)


@frozen
class CentroidProbe:
    """A :class:`application.ports.FeatureProbe`: each row goes to the nearest mean of the other rows of a label."""

    def score(self, features: Matrix, labels: Sequence[int], n_labels: int) -> ProbeScore:
        """Return one minus the accuracy as the loss."""
        rows, known = np.asarray(features, np.float64), np.asarray(labels)
        right = 0
        for index in range(len(rows)):
            others = np.arange(len(rows)) != index
            distances = [
                float(np.linalg.norm(rows[index] - rows[others & (known == label)].mean(axis=0)))
                if (others & (known == label)).any()
                else np.inf
                for label in range(n_labels)
            ]
            right += int(np.argmin(distances)) == known[index]
        accuracy = float(right / len(rows))
        return ProbeScore(1.0 - accuracy, accuracy)


@define
class InMemoryCheckpointStore:
    """A :class:`application.ports.CheckpointStore` that keeps copies under (folder, name).

    Attributes:
        kept: what is kept.
        fail_at_save: number of the save, from 1, that raises StorageError instead; 0 for none.
        saves: saves asked for so far.
    """

    kept: dict[tuple[Path, str], Checkpoint] = field(factory=dict)
    fail_at_save: int = 0
    saves: int = 0

    def save(self, folder: Path, name: str, checkpoint: Checkpoint) -> None:
        """Keep a copy."""
        self.saves += 1
        if self.saves == self.fail_at_save:
            raise StorageError("cannot write: disk full, on purpose", where=folder / name)
        self.kept[folder, name] = deepcopy(checkpoint)

    def load(self, folder: Path, name: str, key: str) -> Checkpoint | None:
        """Return a copy of what was kept under this name and key."""
        kept = self.kept.get((folder, name))
        return deepcopy(kept) if kept is not None and kept.key == key else None

    def clear(self, folder: Path) -> None:
        """Forget the folder."""
        for where, name in list(self.kept):
            if where == folder:
                del self.kept[where, name]


@frozen
class RecordingObserver:
    """A :class:`application.ports.TrainingObserver` that remembers every event.

    Attributes:
        events: what was reported, in order.
    """

    events: list[TrainingEvent] = field(factory=list)

    def on_event(self, event: TrainingEvent) -> None:
        """Remember the event."""
        self.events.append(event)


@frozen
class InMemoryMetricsLog:
    """A :class:`application.ports.MetricsLog` that keeps the events of each run.

    Attributes:
        runs: observers by folder; a resumed run has one per attempt.
        writable: False makes `open` fail, as an unwritable folder does.
    """

    runs: dict[Path, list[RecordingObserver]] = field(factory=dict)
    writable: bool = True

    @contextmanager
    def open(self, folder: Path, *, from_step: int = 0) -> Iterator[TrainingObserver]:
        """Remember the events of one run."""
        if not self.writable:
            raise StorageError("cannot write: read-only, on purpose", where=folder)
        observer = RecordingObserver()
        self.runs.setdefault(folder, []).append(observer)
        yield observer


@define
class ScriptedInterruption:
    """A :class:`application.ports.Interruption` that a test writes: the signal comes at a given question.

    Attributes:
        at: number of the question, from 1 over all contexts, at which the signal is there; 0 for never.
        signal_number: the signal.
        asked: questions so far.
    """

    at: int = 0
    signal_number: int = 15
    asked: int = 0

    @contextmanager
    def deferred(self) -> Iterator[Callable[[], int | None]]:
        """Answer questions as scripted; a signal that came stays."""

        def ask() -> int | None:
            self.asked += 1
            return self.signal_number if 0 < self.at <= self.asked else None

        yield ask
