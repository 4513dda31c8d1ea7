"""The loop that trains a router head: steps, evaluations, early stopping, checkpoints.

Everything that decides the outcome lies in :class:`LoopState`, the head session and the plan, so that a run
that goes on from a checkpoint cannot be told from one that was never interrupted.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Protocol

from attrs import evolve, frozen

from application.ports import HeadSession
from domain.early_stopping import EarlyStopState, Verdict
from domain.features import Matrix
from domain.training import StopReason, TrainOptions, epoch_order
from domain.training_events import Evaluated, LearningRateReduced, TrainingEvent, ValidationScored


@frozen
class StepPlan:
    """Which rows each step trains on; a function of these numbers only.

    Attributes:
        n_rows: number of training rows.
        batch_size: rows per step; the last step of an epoch may have fewer.
        epochs: passes over the rows.
        seed: decides the order.
    """

    n_rows: int
    batch_size: int
    epochs: int
    seed: int

    @property
    def steps_per_epoch(self) -> int:
        """Steps of one pass."""
        return math.ceil(self.n_rows / self.batch_size)

    @property
    def total_steps(self) -> int:
        """Steps of the whole run, early stopping aside."""
        return self.steps_per_epoch * self.epochs

    def epoch_of(self, step: int) -> int:
        """Return the epoch, from 1, that step number `step` (from 0) belongs to."""
        return min(step, self.total_steps - 1) // self.steps_per_epoch + 1

    def rows(self, step: int) -> tuple[int, ...]:
        """Return the rows of step number `step`, from 0."""
        epoch, position = divmod(step, self.steps_per_epoch)
        order = epoch_order(self.n_rows, self.seed, epoch)
        return order[position * self.batch_size : (position + 1) * self.batch_size]


@frozen
class LoopState:
    """Where a run stands; plain values that a checkpoint carries.

    Attributes:
        early: state of early stopping.
        step: steps done.
        best_accuracy: evaluation accuracy at the best loss.
        best_step: steps done at the best loss; None before the first evaluation that improved.
        loss_sum: sum of training losses over rows since the last evaluation.
        correct: rows that were right since the last evaluation.
        rows: rows trained on since the last evaluation.
        started: whether the head was evaluated before its first step.
        reason: why the run is over, or None while it is not.
    """

    early: EarlyStopState
    step: int = 0
    best_accuracy: float = 0.0
    best_step: int | None = None
    loss_sum: float = 0.0
    correct: int = 0
    rows: int = 0
    started: bool = False
    reason: StopReason | None = None


class SaveProgress(Protocol):
    """Makes the run able to go on from here."""

    def __call__(self, state: LoopState, best: Mapping[str, Matrix]) -> None:
        """Keep the state, the session and the best weights."""
        ...


@frozen(eq=False)
class TrainingLoop:
    """Trains one head session to its end.

    Attributes:
        session: the head, at the point that the state says.
        options: how to train.
        plan: which rows when.
        val_labels: label of each validation row.
        emit: takes every event.
        save: called after every evaluation, and when a signal came.
        signal: returns the number of the signal that came, or None.
    """

    session: HeadSession
    options: TrainOptions
    plan: StepPlan
    val_labels: tuple[int, ...]
    emit: Callable[[TrainingEvent], None]
    save: SaveProgress
    signal: Callable[[], int | None]

    def run(self, state: LoopState, best: Mapping[str, Matrix]) -> tuple[LoopState, Mapping[str, Matrix]]:
        """Train from `state` on; return the final state, with a reason, and the best weights (empty without any)."""
        self.session.set_learning_rate(state.early.learning_rate)
        if not state.started:
            state, best = self._evaluate(state, best)
        while state.reason is None:
            if self.signal() is not None:
                self.save(state, best)
                return evolve(state, reason=StopReason.INTERRUPTED), best
            state, best = self._advance(state, best)
        return state, best

    def _advance(self, state: LoopState, best: Mapping[str, Matrix]) -> tuple[LoopState, Mapping[str, Matrix]]:
        state = self._step(state)
        over = state.step >= self.plan.total_steps
        if state.reason is None and (over or state.step % self.options.eval_steps == 0):
            state, best = self._evaluate(state, best)
            if over and state.reason is None:
                state = evolve(state, reason=StopReason.EPOCHS)
            self.save(state, best)
        return state, best

    def _step(self, state: LoopState) -> LoopState:
        rows = self.plan.rows(state.step)
        result = self.session.train_step(rows)
        return evolve(
            state,
            step=state.step + 1,
            loss_sum=state.loss_sum + result.loss * len(rows),
            correct=state.correct + result.correct,
            rows=state.rows + len(rows),
            reason=None if math.isfinite(result.loss) else StopReason.DIVERGED,
        )

    def _evaluate(self, state: LoopState, best: Mapping[str, Matrix]) -> tuple[LoopState, Mapping[str, Matrix]]:
        result = self.session.evaluate()
        early, verdict = self.options.early_stop.observe(state.early, result.loss)
        self._tell(state, early, result.loss, result.accuracy, verdict)
        self.emit(ValidationScored(state.step, result.probabilities, self.val_labels))
        if verdict is Verdict.IMPROVED:
            best = self.session.weights()
        if verdict is Verdict.REDUCED_LEARNING_RATE:
            self.session.set_learning_rate(early.learning_rate)
        improved = verdict is Verdict.IMPROVED
        return (
            LoopState(
                early=early,
                step=state.step,
                best_accuracy=result.accuracy if improved else state.best_accuracy,
                best_step=state.step if improved else state.best_step,
                started=True,
                reason=StopReason(verdict) if verdict.stops else None,
            ),
            best,
        )

    def _tell(self, state: LoopState, early: EarlyStopState, loss: float, accuracy: float, verdict: Verdict) -> None:
        self.emit(
            Evaluated(
                step=state.step,
                epoch=self.plan.epoch_of(max(state.step - 1, 0)),
                train_loss=state.loss_sum / state.rows if state.rows else math.nan,
                train_accuracy=state.correct / state.rows if state.rows else math.nan,
                eval_loss=loss,
                eval_accuracy=accuracy,
                learning_rate=state.early.learning_rate,
                verdict=verdict,
            )
        )
        if verdict is Verdict.REDUCED_LEARNING_RATE:
            self.emit(
                LearningRateReduced(
                    step=state.step,
                    before=state.early.learning_rate,
                    after=early.learning_rate,
                    reduction=early.reductions,
                    max_reductions=self.options.early_stop.max_lr_reductions,
                )
            )
