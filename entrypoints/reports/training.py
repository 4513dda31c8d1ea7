"""What ``moe-router train`` prints while it trains, line by line as in the workflow guide."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from attrs import asdict, field, mutable

from application.ports import TrainReport
from domain.early_stopping import Verdict
from domain.training import StopReason, TrainOptions
from domain.training_events import (
    CandidateScored,
    Evaluated,
    LearningRateReduced,
    Noted,
    RunStarted,
    RunStopped,
    TrainingEvent,
)

_RULE = "=" * 60
_NO_OPTIONS = TrainOptions()


@mutable
class TrainingLines:
    """A :class:`application.ports.TrainingObserver` that writes lines for people: what is new, and nothing else.

    Evaluations without improvement stand in TensorBoard; here the reductions and the end tell of them.

    Attributes:
        write: takes one line.
    """

    write: Callable[[str], None]
    _options: TrainOptions = field(default=_NO_OPTIONS, init=False)

    def on_event(self, event: TrainingEvent) -> None:
        """Write the lines of one event."""
        for line in self._lines(event):
            self.write(line)

    def _lines(self, event: TrainingEvent) -> Iterator[str]:
        match event:
            case RunStarted():
                self._options = event.options
                yield from configuration(event)
            case CandidateScored():
                mark = "  ← chosen" if event.chosen else ""
                yield f"  {event.choice}: {event.name}: loss={loss(event.loss)} acc={event.accuracy:.4f}{mark}"
            case Evaluated():
                if event.step == 0 or event.verdict is Verdict.IMPROVED:
                    yield evaluation(event)
            case LearningRateReduced():
                yield f"🔽 Reducing learning rate: {event.before:.2e} → {event.after:.2e}"
                yield f"   Reduction {event.reduction}/{event.max_reductions} | Resetting patience"
            case RunStopped():
                yield f"⏹️  Stopping: {self._reason(event)}"
                kept = "" if event.best_step is None else f" (kept at step {event.best_step})"
                yield f"   Best eval_loss: {loss(event.best_loss)}, Best eval_acc: {event.best_accuracy:.4f}{kept}"
                yield ""
            case Noted():
                yield event.message
            case _:
                return

    def _reason(self, event: RunStopped) -> str:
        policy = self._options.early_stop
        reasons = {
            StopReason.EPOCHS: f"all {self._options.epochs} epochs are done",
            StopReason.MAX_REDUCTIONS: (
                f"Hit max LR reductions ({policy.max_lr_reductions}/{policy.max_lr_reductions})"
            ),
            StopReason.MIN_LEARNING_RATE: f"the learning rate is below the minimum ({policy.min_lr:g})",
            StopReason.DIVERGED: f"the loss at step {event.step} is not finite",
            StopReason.INTERRUPTED: f"interrupted after step {event.step}",
        }
        return reasons[event.reason]


def configuration(event: RunStarted) -> Iterator[str]:
    """Return the block that opens a run."""
    options, stop = event.options, event.options.early_stop
    layers = "auto" if options.layers is None else ",".join(map(str, options.layers))
    rows: list[tuple[str, Any]] = [
        ("Train samples", event.n_train),
        ("Eval samples", event.n_val),
        *([("Out-of-scope samples", event.n_out_of_scope)] if event.n_out_of_scope else []),
        ("Adapters", event.labels),
        ("Base model", event.base_model),
        ("Layers", layers),
        ("Pooling", "auto" if options.pooling is None else str(options.pooling)),
        ("Head", options.head),
        ("Max epochs", options.epochs),
        ("Batch size", options.batch_size),
        ("Initial learning rate", f"{options.learning_rate:g}"),
        ("Eval every N steps", options.eval_steps),
        ("Patience (evals)", stop.patience),
        ("Min delta", f"{stop.min_delta:g}"),
        ("LR reduction factor", f"{stop.lr_factor:g}"),
        ("Max LR reductions", stop.max_lr_reductions),
        ("Min LR", f"{stop.min_lr:g}"),
        ("Seed", options.seed),
    ]
    yield from (_RULE, "Router Training Configuration", _RULE)
    yield from (f"  {name}: {value}" for name, value in rows)
    yield from (_RULE, "")
    if event.log_dir is not None:
        yield from (f"TensorBoard logs: {event.log_dir}", "")


def evaluation(event: Evaluated) -> str:
    """Return the line of one evaluation."""
    mark = "✓ improved" if event.step else "start, before the first step"
    return f"Step {event.step:5d}: eval_loss={loss(event.eval_loss)} eval_acc={event.eval_accuracy:.4f} | {mark}"


def loss(value: float) -> str:
    """Return a loss in four decimals, or in two digits where those would all be zeros."""
    return f"{value:.4f}" if value == 0 or not value < 0.0001 else f"{value:.1e}"


def as_values(report: TrainReport) -> dict[str, Any]:
    """Return the report as plain values."""
    card = report.card
    return {
        "router": str(report.router_path),
        "labels": card.labels.as_mapping(),
        "base_model": card.features.base.name,
        "layers": list(card.features.layers),
        "pooling": str(card.features.pooling),
        "head": card.head,
        "n_train": card.n_train,
        "n_val": card.n_val,
        "steps": report.steps,
        "stop_reason": report.stop_reason,
        "best_loss": report.best_loss,
        "best_accuracy": report.best_accuracy,
        "best_step": report.best_step,
        "temperature": card.temperature,
        "min_confidence": card.thresholds.min_confidence,
        "max_out_of_scope": card.thresholds.max_out_of_scope,
        "expected": None if card.expected is None else asdict(card.expected),
        "log_dir": None if report.log_dir is None else str(report.log_dir),
        "seconds": report.seconds,
    }
