"""The observers of a training run, and the events that open it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Final

from attrs import frozen

from application.ports import MetricsLog, TrainingObserver, TrainJob
from application.training.choose_features import ChosenFeatures
from application.training.training_data import TrainingData
from domain.errors import StorageError
from domain.training_events import Emit, FeaturesReady, Noted, RunStarted, TrainingEvent

UNBALANCED: Final = 4
"""Adapters are unbalanced when one has more than so many times the rows of another."""


@frozen(eq=False)
class RunObservers:
    """The observers of one run.

    Attributes:
        observers: the caller's, joined by the metrics log once that is open.
        open_logs: closes the metrics log when the run ends.
    """

    observers: list[TrainingObserver]
    open_logs: ExitStack

    def emit(self, event: TrainingEvent) -> None:
        """Pass an event to every observer."""
        for observer in self.observers:
            observer.on_event(event)

    def open(self, metrics: MetricsLog, parent: Path | None, run_name: str, *, from_step: int) -> Path | None:
        """Add the metrics log of this run; return its folder, or None where there is none."""
        if parent is None:
            return None
        folder = parent / run_name
        try:
            self.observers.append(self.open_logs.enter_context(metrics.open(folder, from_step=from_step)))
        except StorageError as error:
            self.emit(Noted(f"warning: no TensorBoard logs, training goes on without them: {error}"))
            return None
        return folder


def announce(
    job: TrainJob,
    data: TrainingData,
    base_model: str,
    log_dir: Path | None,
    replaced: Sequence[Path],
    emit: Emit,
) -> None:
    """Tell what is about to be trained, which earlier router that will replace, and what is odd about the rows."""
    emit(
        RunStarted(
            options=job.options,
            n_train=len(data.train),
            n_val=len(data.val),
            base_model=base_model,
            log_dir=None if log_dir is None else str(log_dir),
            labels=data.labels,
            n_out_of_scope=len(data.out_of_scope),
        )
    )
    if replaced:
        there = "is there already and is" if len(replaced) == 1 else "are there already and are"
        emit(Noted(f"note: {' and '.join(map(str, replaced))} {there} replaced when the new router is complete"))
    for warning in data.warnings:
        emit(Noted(f"warning: {warning}"))
    if note := _unbalanced(data):
        emit(Noted(f"note: {note}"))


def _unbalanced(data: TrainingData) -> str | None:
    """Return what happens to adapters of few rows, when one has more than `UNBALANCED` times as many as another."""
    counts = Counter(row.adapter for row in (*data.train, *data.val))
    most, least = max(counts, key=counts.__getitem__), min(counts, key=counts.__getitem__)
    if counts[most] <= UNBALANCED * counts[least]:
        return None
    return (
        f"the adapters have {counts[least]} ({least}) to {counts[most]} ({most}) rows: those of few rows are "
        "weighted up, so that the others do not crowd them out, and their errors count as much in the limits; more "
        "rows for them help"
    )


def describe(chosen: ChosenFeatures, data: TrainingData, emit: Emit) -> None:
    """Tell which features the run works on."""
    shown = {row.pieces[0]: row.label for row in data.prompts.rows}
    emit(
        FeaturesReady(
            features=chosen.matrix[list(shown)],
            labels=tuple(shown.values()),
            texts=tuple(data.prompts.texts[place] for place in shown),
            layers=chosen.spec.layers,
            pooling=chosen.spec.pooling,
        )
    )
