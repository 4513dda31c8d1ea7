"""From features to a trained head: which kind, then the loop, from its start or from a checkpoint."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

from attrs import frozen

from application.ports import HeadProblem, HeadSession, HeadTrainer, Interruption
from application.training.resumable import RunCheckpoints, SavedHead
from application.training.training_loop import LoopState, StepPlan, TrainingLoop
from domain.features import Matrix
from domain.training import CandidateScored, Noted, TrainingEvent, TrainOptions

MARGIN = 0.1
"""Share of the validation loss that must be won to prefer a later kind of head."""

Emit = Callable[[TrainingEvent], None]


@frozen(eq=False)
class FittedHead:
    """A head at the end of its loop.

    Attributes:
        kind: kind of head.
        state: where the loop ended, and why.
        tensors: router tensors of the best weights; None when no evaluation ever improved.
        left_out: see :attr:`application.ports.HeadSession.left_out`.
        signal: number of the signal that ended the loop, or None.
    """

    kind: str
    state: LoopState
    tensors: Mapping[str, Matrix] | None
    left_out: Matrix | None
    signal: int | None


@frozen
class HeadFitting:
    """Fits heads.

    Attributes:
        heads: trains them.
        interruption: tells of signals.
        emit: hears every event.
    """

    heads: HeadTrainer
    interruption: Interruption
    emit: Emit

    def __call__(
        self, problem: HeadProblem, options: TrainOptions, kept: RunCheckpoints, saved: SavedHead | None
    ) -> FittedHead:
        """Train a head; `saved` is what an interrupted attempt left, `kept` takes this attempt's checkpoints."""
        kind, session, state, best = self._start(problem, options, saved)
        with self.interruption.deferred() as signal:
            loop = TrainingLoop(
                session=session,
                options=options,
                plan=StepPlan(len(problem.train_labels), options.batch_size, options.epochs, options.seed),
                val_labels=problem.val_labels,
                emit=self.emit,
                save=lambda state, best: kept.save_head(kind, session, state, best),
                signal=signal,
            )
            state, best = loop.run(state, best)
            came = signal()
        return FittedHead(kind, state, session.router_tensors(best) if best else None, session.left_out, came)

    def _start(
        self, problem: HeadProblem, options: TrainOptions, saved: SavedHead | None
    ) -> tuple[str, HeadSession, LoopState, Mapping[str, Matrix]]:
        if saved is None:
            kind, session = choose_head(self.heads, problem, options, self.emit)
            return kind, session, LoopState(options.early_stop.start(options.learning_rate)), {}
        state = saved.state
        session = self.heads.start(saved.kind, problem, state.early.learning_rate)
        session.restore(saved.session)
        self.emit(Noted(f"going on from the checkpoint at step {state.step}"))
        return saved.kind, session, state, saved.best


def choose_head(
    heads: HeadTrainer, problem: HeadProblem, options: TrainOptions, emit: Emit
) -> tuple[str, HeadSession]:
    """Return the kind that the options name; with "auto" the one that starts with the lowest validation loss.

    Heads start from a fit of the training rows, so the first evaluation already tells them apart. Validation sets
    are small, so a kind later in the trainer's order must be better by more than `MARGIN` of the loss to win; a
    loss that is not a number never wins.
    """
    if options.head != "auto":
        return options.head, heads.start(options.head, problem, options.learning_rate)
    sessions = [(kind, heads.start(kind, problem, options.learning_rate)) for kind in heads.kinds]
    scores = [session.evaluate() for _, session in sessions]
    best = 0
    for index, score in enumerate(scores):
        incumbent = scores[best].loss
        if math.isnan(incumbent) or score.loss < (1 - MARGIN) * incumbent:  # false when this loss is NaN
            best = index
    for index, ((kind, _), score) in enumerate(zip(sessions, scores, strict=True)):
        emit(CandidateScored("head", kind, score.loss, score.accuracy, chosen=index == best))
    return sessions[best]
