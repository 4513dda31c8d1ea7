"""Ports around training a router."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Protocol

from attrs import frozen

from application.ports.features import FeatureExtractor
from domain.router import RouterCard
from domain.training import StopReason, TrainOptions
from domain.training_events import TrainingEvent
from domain.turns import TurnChoice


@frozen
class TrainJob:
    """One training run, described by names and numbers only, so that it can travel to another machine.

    Attributes:
        train_path: file of training rows, on the machine that trains.
        val_path: file of validation rows.
        base_model: hub id or folder; None for the place's default.
        router_out: where the router goes.
        log_dir: folder for the metrics, or None for none.
        options: how to train.
        out_of_scope_path: file of prompts that belong to no adapter, to fit abstention to, or None.
        use_cache: whether features may be read from and written to the feature cache.
        turn: which human turns of a conversation the rows were made of; None for what the data set says of itself.
    """

    train_path: Path
    val_path: Path
    base_model: str | None
    router_out: Path
    log_dir: Path | None
    options: TrainOptions
    out_of_scope_path: Path | None = None
    use_cache: bool = True
    turn: TurnChoice | None = None


@frozen
class TrainReport:
    """What a training run achieved.

    Attributes:
        router_path: where the router lies, on the machine that trained.
        card: the router's description.
        steps: training steps done.
        stop_reason: why it stopped.
        best_loss: evaluation loss of the head that was kept, nats; see :class:`domain.training_events.RunStopped`.
        best_accuracy: evaluation accuracy of that head, 0 to 1.
        best_step: training steps that it had seen.
        log_dir: folder with this run's metrics, or None.
        seconds: wall-clock seconds by phase ("features", "head", …).
    """

    router_path: Path
    card: RouterCard
    steps: int
    stop_reason: StopReason
    best_loss: float
    best_accuracy: float
    best_step: int
    log_dir: Path | None
    seconds: dict[str, float]


class TrainingObserver(Protocol):
    """Receives the events of a training run. Never fails the run."""

    def on_event(self, event: TrainingEvent) -> None:
        """Take note of one event; events come in order."""
        ...


class MetricsLog(Protocol):
    """Keeps the metrics of runs for looking at them later (TensorBoard)."""

    def open(self, folder: Path, *, from_step: int = 0) -> AbstractContextManager[TrainingObserver]:
        """Open one run's metrics, which are complete when the context ends.

        The observer keeps the contract of :class:`TrainingObserver`: when writing fails later on, it stays silent.

        Args:
            folder: the run's own folder; made when it is not there.
            from_step: step that a resumed run goes on from; what an earlier attempt logged after it is dropped.

        Raises:
            StorageError: the folder cannot be written to.
        """
        ...


class FeatureExtractorSource(Protocol):
    """Loads base models."""

    def __call__(
        self,
        base_model: str | None,
        *,
        max_tokens: int,
        use_cache: bool,
        max_layer: Callable[[int], int] | None = None,
    ) -> FeatureExtractor:
        """Load a base model.

        Args:
            base_model: hub id or folder; None for the place's default.
            max_tokens: prompts are cut after this many tokens.
            use_cache: whether features may be read from and written to the feature cache.
            max_layer: from the model's number of blocks to the deepest layer that will be asked for; deeper ones
                need not be loaded.

        Raises:
            MoeRouterError: the model cannot be loaded.
        """
        ...


class Interruption(Protocol):
    """Says when a signal asks the run to end.

    The contract: outside :meth:`deferred` a signal ends the run at once, unwinding it from where it happens to be
    (the caller gets an InterruptedRunError); inside, it waits until the run asks.
    """

    def deferred(self) -> AbstractContextManager[Callable[[], int | None]]:
        """Hold signals back; what the context gives returns the number of the signal that came, or None."""
        ...


class RouterTrainer(Protocol):
    """Trains a router somewhere: in this process, or on a GPU elsewhere.

    The contract: the same job on the same data gives the same report and an equivalent router wherever it
    runs; the router file at `job.router_out` is complete or absent.
    """

    def train(self, job: TrainJob, observer: TrainingObserver) -> TrainReport:
        """Run the job to its end.

        Raises:
            DataRejectedError: the rows cannot be used.
            TrainingDivergedError: the loss left the finite numbers.
            InterruptedRunError: a signal ended it; the same job resumes.
            RemoteError: the remote side failed.
        """
        ...
