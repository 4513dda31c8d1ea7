"""Training metrics as TensorBoard event files."""

from __future__ import annotations

import math
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from typing import Any

import numpy as np
import structlog
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from torch.utils.tensorboard import SummaryWriter
from torch.utils.tensorboard.summary import hparams as hparams_summaries

from domain.errors import StorageError
from domain.features import Matrix
from domain.labels import LabelMap
from domain.printable import inline
from domain.router import RouterCard
from domain.training import TrainOptions
from domain.training_events import (
    Calibrated,
    Evaluated,
    FeaturesReady,
    Noted,
    RunStarted,
    RunStopped,
    TrainingEvent,
    ValidationScored,
)

MAX_PROJECTED = 1000
PROJECTED_SIZE = 64

_log = structlog.get_logger()


class TensorboardMetricsLog:
    """A :class:`application.ports.MetricsLog` of TensorBoard runs.

    A run holds: losses, accuracies, learning rate and F1 of every adapter at every evaluation; at the best one also
    precision-recall curves and the confusion matrix as a figure; the options with the final results
    (HPARAMS tab); the notes, the router's description and what its limits do to changed prompts (TEXT tab); and up to
    1,000 prompts with their adapters, reduced to their 64 principal components: as the base model sees them, and as
    the finished router remembers them (PROJECTOR tab).
    """

    @contextmanager
    def open(self, folder: Path, *, from_step: int = 0) -> Iterator[TensorboardObserver]:
        """Open a run; see the port."""
        try:
            writer = SummaryWriter(str(folder), purge_step=from_step or None)
        except OSError as error:
            raise StorageError(f"cannot write: {error.strerror or error}", where=folder) from error
        observer = TensorboardObserver(writer)
        with _quiet_writer():
            try:
                yield observer
            finally:
                observer.close()


@contextmanager
def _quiet_writer() -> Iterator[None]:
    """Drop what ends the writer's own thread, such as a full disk: it comes up again in our next call."""
    before = threading.excepthook

    def hook(failed: threading.ExceptHookArgs) -> None:
        if type(failed.thread).__name__ != "_AsyncWriterThread":
            before(failed)

    threading.excepthook = hook
    try:
        yield
    finally:
        threading.excepthook = before


class TensorboardObserver:
    """A :class:`application.ports.TrainingObserver` that writes to one run. It goes silent when writing fails."""

    def __init__(self, writer: SummaryWriter) -> None:
        self._writer: Any = writer  # its methods are not annotated
        self._working = True
        self._labels: LabelMap | None = None
        self._options: TrainOptions | None = None
        self._layers: tuple[int, ...] = ()
        self._pooling = ""
        self._best = math.inf
        self._best_scores: ValidationScored | None = None
        self._improved = False
        self._stopped: RunStopped | None = None
        self._results: dict[str, float] = {}
        self._card: RouterCard | None = None

    def on_event(self, event: TrainingEvent) -> None:
        """Log one event."""
        self._guarded(lambda: self._write(event))

    def close(self) -> None:
        """Finish the file."""
        self._guarded(self._hparams)
        self._guarded(self._writer.close)

    def _guarded(self, work: Callable[[], object]) -> None:
        if not self._working:
            return
        try:
            work()
        except (OSError, RuntimeError, ValueError) as error:  # what full disks make of the writer's thread
            self._working = False
            _log.warning("tensorboard_logging_stopped", reason=str(error), folder=str(self._writer.log_dir))

    def _write(self, event: TrainingEvent) -> None:
        match event:
            case RunStarted():
                self._labels, self._options = event.labels, event.options
            case FeaturesReady():
                self._layers, self._pooling = event.layers, str(event.pooling)
                self._project("features", event.features, event.labels, event.texts)
            case Evaluated():
                self._scalars(event)
            case ValidationScored():
                self._score(event)
            case Calibrated():
                self._complete(event)
            case Noted():
                self._writer.add_text("notes", inline(event.message))
            case RunStopped():
                self._finish(event)
            case _:
                pass  # choices and rate reductions show in the other tags

    def _scalars(self, event: Evaluated) -> None:
        self._improved = event.eval_loss < self._best
        self._best = min(self._best, event.eval_loss) if not math.isnan(event.eval_loss) else self._best
        values = {
            "loss/eval": event.eval_loss,
            "accuracy/eval": event.eval_accuracy,
            "loss/train": event.train_loss,
            "accuracy/train": event.train_accuracy,
            "learning_rate": event.learning_rate,
            "epoch": float(event.epoch),
        }
        for tag, value in values.items():
            if not math.isnan(value):  # there is no training loss before the first step
                self._writer.add_scalar(tag, value, event.step)

    def _score(self, event: ValidationScored) -> None:
        counts = confusion(event, len(self._names))
        for name, value in zip(self._names, f1_scores(counts), strict=True):
            self._writer.add_scalar(f"f1/{name}", value, event.step)
        if self._improved:
            self._best_scores = event

    def _finish(self, event: RunStopped) -> None:
        if self._best_scores is not None:
            best, truth = self._best_scores, np.asarray(self._best_scores.labels)
            self._writer.add_image(
                "confusion",
                confusion_image(confusion(best, len(self._names)), self._names),
                best.step,
                dataformats="HWC",
            )
            for label, name in enumerate(self._names):
                scores = np.asarray(best.probabilities)[:, label]
                self._writer.add_pr_curve(f"precision_recall/{name}", truth == label, scores, best.step)
        self._stopped = event
        self._results |= {"result/best_loss": event.best_loss, "result/best_accuracy": event.best_accuracy}

    def _complete(self, event: Calibrated) -> None:
        """Tell what the router is and does, and show what it remembers."""
        self._card = card = event.card
        self._writer.add_text("router", described(card))
        if card.trade_off:
            self._writer.add_text("limits", limits_table(card))
        if expected := card.expected:
            self._results |= {
                "result/answered": expected.coverage,
                "result/wrong": expected.error,
                "result/changed_answered": expected.changed_coverage,
                "result/changed_wrong": expected.changed_error,
                "result/out_of_scope_refused": expected.refused,
            }
        self._project("bank", event.known, np.asarray(event.labels).tolist(), event.texts)

    def _hparams(self) -> None:
        """Write the options, or what was chosen, with the results; at the end, since there can be one such entry."""
        event, options, card = self._stopped, self._options, self._card
        if event is None or options is None:
            return
        stop = options.early_stop
        values = {
            "lr": options.learning_rate,
            "batch_size": options.batch_size,
            "epochs": options.epochs,
            "eval_steps": options.eval_steps,
            "seed": options.seed,
            "head": card.head if card else options.head,
            "layers": "+".join(map(str, self._layers)),
            "pooling": self._pooling,
            "patience": stop.patience,
            "min_delta": stop.min_delta,
            "lr_factor": stop.lr_factor,
            "max_lr_reductions": stop.max_lr_reductions,
        }
        if card:
            values["target_error"] = card.target_error
        finite = {name: value for name, value in self._results.items() if math.isfinite(value)}
        # Not add_hparams(): that one opens a second run for it.
        for summary in hparams_summaries(values, finite):  # type: ignore[no-untyped-call]
            self._writer.file_writer.add_summary(summary)
        for name, value in finite.items():
            self._writer.add_scalar(name, value, event.step)

    def _project(self, tag: str, features: Matrix, labels: Sequence[int], texts: Sequence[str]) -> None:
        rows = np.asarray(features[:MAX_PROJECTED], np.float64)
        rows = (rows - rows.mean(axis=0)) / np.where(rows.std(axis=0) > 0, rows.std(axis=0), 1.0)
        left, sizes, _ = np.linalg.svd(rows, full_matrices=False)
        reduced = (left * sizes)[:, :PROJECTED_SIZE].astype(np.float32)  # (n, up to 64)
        names = self._names
        metadata = [
            [names[label], " ".join(text.split())[:200] or "(empty)"]
            for label, text in zip(labels[:MAX_PROJECTED], texts[:MAX_PROJECTED], strict=True)
        ]
        with redirect_stdout(sys.stderr):  # a resumed run writes it again, on which TensorBoard prints a remark
            self._writer.add_embedding(reduced, metadata=metadata, metadata_header=["adapter", "prompt"], tag=tag)

    @property
    def _names(self) -> tuple[str, ...]:
        return () if self._labels is None else self._labels.names


def described(card: RouterCard) -> str:
    """Return a router's description as a table in Markdown."""
    features = card.features
    rows = {
        "adapters": ", ".join(card.labels.names),
        "base model": features.base.name,
        "features": f"hidden_states {', '.join(map(str, features.layers))}, {features.pooling}",
        "head": card.head,
        "data set": f"{card.dataset}: {card.n_train} training, {card.n_val} validation prompts",
        "out-of-scope examples": str(card.n_out_of_scope),
        "validation accuracy": f"{card.val_accuracy:.4f}",
        "limits": f"confidence from {card.thresholds.min_confidence:.3f}, "
        f"out-of-scope score up to {card.thresholds.max_out_of_scope:.3f}",
    }
    return "\n".join(["| | |", "| --- | --- |", *(f"| {name} | {inline(value)} |" for name, value in rows.items())])


def limits_table(card: RouterCard) -> str:
    """Return what limits for each target error do to prompts, changed ones, and those out of scope, in Markdown."""
    heads = "target error | min confidence | max out-of-scope | answered | wrong"
    heads += " | changed answered | changed wrong | out-of-scope refused"
    rows = (
        f"| {'applies: ' if one == card.expected else ''}{one.target_error:.1%} | {one.min_confidence:.3f} | "
        f"{one.max_out_of_scope:.3f} | {one.coverage:.1%} | {one.error:.1%} | {one.changed_coverage:.1%} | "
        f"{one.changed_error:.1%} | {one.refused:.1%} |"
        for one in card.trade_off
    )
    return "\n".join([f"| {heads} |", "| --- " * 8 + "|", *rows])


def confusion(event: ValidationScored, n_labels: int) -> np.ndarray:
    """Return counts (gold, predicted), shape (C, C)."""
    counts = np.zeros((n_labels, n_labels), np.int64)
    np.add.at(counts, (np.asarray(event.labels), np.asarray(event.probabilities).argmax(axis=1)), 1)
    return counts


def f1_scores(counts: np.ndarray) -> list[float]:
    """Return the F1 score of each label from counts (gold, predicted); 0 for a label that never occurs."""
    hits = np.diag(counts)
    total = counts.sum(axis=0) + counts.sum(axis=1)
    return [float(2 * hit / both) if both else 0.0 for hit, both in zip(hits, total, strict=True)]


def confusion_image(counts: np.ndarray, names: tuple[str, ...]) -> np.ndarray:
    """Return a picture of the counts, uint8 (height, width, 3)."""
    side = 2.5 + 0.7 * len(names)
    figure = Figure(figsize=(side, side), dpi=100, layout="constrained")
    canvas = FigureCanvasAgg(figure)
    axes = figure.add_subplot(xlabel="predicted", ylabel="gold", title="validation rows at the best step")
    axes.imshow(counts, cmap="Blues", vmin=0)
    axes.set_xticks(range(len(names)), names, rotation=45, ha="right")
    axes.set_yticks(range(len(names)), names)
    for gold, row in enumerate(counts):
        for predicted, count in enumerate(row):
            shade = "white" if count > counts.max() / 2 else "black"
            axes.text(predicted, gold, str(count), ha="center", va="center", color=shade)
    canvas.draw()  # type: ignore[no-untyped-call]
    pixels = np.asarray(canvas.buffer_rgba())  # type: ignore[no-untyped-call]
    return pixels[..., :3].copy()
