"""From features to a trained head: which kind, then the loop, from its start or from a checkpoint."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

from attrs import evolve, frozen

from application.ports import HeadEvaluation, HeadProblem, HeadSession, HeadTrainer, Interruption
from application.training.resumable import RunCheckpoints, SavedHead
from application.training.training_loop import LoopState, StepPlan, TrainingLoop
from domain.features import Matrix
from domain.split import stratified_folds
from domain.training import CandidateScored, Noted, TrainingEvent, TrainOptions

FOLDS = 3
"""Folds of the cross-validation that chooses the kind of head."""

FOLD_ROWS = 600
"""Training rows in it, at most: enough to tell heads apart, and a few seconds of work."""

Emit = Callable[[TrainingEvent], None]


@frozen(eq=False)
class FittedHead:
    """A head at the end of its loop.

    Attributes:
        kind: kind of head.
        state: where the loop ended, and why.
        tensors: router tensors of the best weights; None when no evaluation ever improved.
        left_out: see :meth:`application.ports.HeadSession.left_out`; None without tensors, too.
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
        if not best:
            return FittedHead(kind, state, None, None, came)
        return FittedHead(kind, state, session.router_tensors(best), session.left_out(best), came)

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
    """Return the kind that the options name; with "auto" the one with the lowest loss in cross-validation.

    Heads start from a fit of the training rows, so that a start per fold tells them apart. The folds are of training
    rows: the validation rows are too few to choose on, and some kinds look at them as they start. Ties go to the
    kind that comes first in the trainer's order; a loss that is not a number never wins. The only
    row of a label is trained on in every fold; where all are, the validation rows decide.
    """
    if options.head != "auto":
        return options.head, heads.start(options.head, problem, options.learning_rate)
    folds = stratified_folds(problem.train_labels, FOLDS, FOLD_ROWS)
    parts = [_without(problem, fold, folds) for fold in folds] or [problem]
    scores = {
        kind: _mean([heads.start(kind, part, options.learning_rate).evaluate() for part in parts])
        for kind in heads.kinds
    }
    best = min(heads.kinds, key=lambda kind: scores[kind][0] if math.isfinite(scores[kind][0]) else math.inf)
    for kind, (loss, accuracy) in scores.items():
        emit(CandidateScored("head", kind, loss, accuracy, chosen=kind == best))
    return best, heads.start(best, problem, options.learning_rate)


def _without(problem: HeadProblem, fold: list[int], folds: list[list[int]]) -> HeadProblem:
    """Return the problem of validating on this fold and training on the others, and on labels that are in no fold."""
    labels = problem.train_labels
    dealt = {labels[row] for row in fold}
    alone = [row for row, label in enumerate(labels) if label not in dealt]
    others = sorted([*alone, *(row for other in folds if other is not fold for row in other)])
    return evolve(
        problem,
        train_features=problem.train_features[others],
        train_labels=tuple(labels[row] for row in others),
        val_features=problem.train_features[fold],
        val_labels=tuple(labels[row] for row in fold),
    )


def _mean(scores: list[HeadEvaluation]) -> tuple[float, float]:
    """Return mean loss and mean accuracy; folds are of one size, give or take a row per label."""
    return sum(one.loss for one in scores) / len(scores), sum(one.accuracy for one in scores) / len(scores)
