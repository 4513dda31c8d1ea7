"""From features to a trained head: which kind, then the loop, from its start or from a checkpoint."""

from __future__ import annotations

import math
from collections.abc import Mapping

from attrs import evolve, frozen

from application.ports import HeadEvaluation, HeadProblem, HeadSession, HeadTrainer, Interruption, LabelledTexts
from application.training.run_checkpoints import RunCheckpoints, SavedHead
from application.training.training_loop import LoopState, StepPlan, TrainingLoop
from domain.features import Matrix
from domain.split import stratified_folds
from domain.training import TrainOptions
from domain.training_events import CandidateScored, Emit, Noted

FOLDS = 3
"""Folds of the cross-validation that chooses the kind of head."""

FOLD_ROWS = 600
"""Training rows in it, at most: enough to tell heads apart, and a few seconds of work."""


@frozen(eq=False)
class FittedHead:
    """A head at the end of its loop.

    Attributes:
        kind: kind of head.
        state: where the loop ended, and why.
        tensors: router tensors of the best weights; None when no evaluation ever improved.
        session: the head itself.
        signal: number of the signal that ended the loop, or None.
    """

    kind: str
    state: LoopState
    tensors: Mapping[str, Matrix] | None
    session: HeadSession
    signal: int | None


@frozen
class HeadFitting:
    """Fits heads.

    Attributes:
        heads: trains them.
        interruption: tells of signals.
        emit: takes every event.
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
                plan=StepPlan(len(problem.train.labels), options.batch_size, options.epochs, options.seed),
                val_labels=problem.val.labels,
                emit=self.emit,
                save=lambda state, best: kept.save_head(kind, session, state, best),
                signal=signal,
            )
            state, best = loop.run(state, best)
            came = signal()
        if not best:
            return FittedHead(kind, state, None, session, came)
        return FittedHead(kind, state, session.router_tensors(best), session, came)

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
    folds = _group_folds(problem)
    parts = [_without(problem, fold, folds) for fold in folds] or [problem]
    emit(Noted(f"trying {len(heads.kinds)} kinds of head, {len(parts)} times each"))
    scores = {
        kind: _mean([heads.start(kind, part, options.learning_rate).evaluate() for part in parts])
        for kind in heads.kinds
    }
    best = min(heads.kinds, key=lambda kind: scores[kind][0] if math.isfinite(scores[kind][0]) else math.inf)
    for kind, (loss, accuracy) in scores.items():
        emit(CandidateScored("head", kind, loss, accuracy, chosen=kind == best))
    return best, heads.start(best, problem, options.learning_rate)


def _group_folds(problem: HeadProblem) -> list[list[int]]:
    """Return folds of rows with a label, each row with its copies; a row that is alone is in none."""
    train = problem.train
    first = {
        group: row for row, group in reversed(list(enumerate(train.groups))) if train.labels[row] < problem.n_labels
    }
    order = sorted(first.values())
    folds = stratified_folds([train.labels[row] for row in order], FOLDS, FOLD_ROWS)
    return [[order[place] for place in fold] for fold in folds]


def _without(problem: HeadProblem, fold: list[int], folds: list[list[int]]) -> HeadProblem:
    """Return the problem of validating on this fold and training on all groups that are not in it."""
    train = problem.train
    dealt = {train.labels[row] for row in fold}
    absent = {train.groups[row] for row in fold}
    # Of many rows only those of the folds take part, so that the choice costs no more than a few seconds.
    drawn = {train.groups[row] for each in folds for row in each}
    others = [
        row
        for row, (label, group) in enumerate(zip(train.labels, train.groups, strict=True))
        if group not in absent and (group in drawn or label == problem.n_labels or label not in dealt)
    ]
    return evolve(problem, train=_taken(train, others), val=_taken(train, fold))


def _taken(texts: LabelledTexts, rows: list[int]) -> LabelledTexts:
    return LabelledTexts(
        texts.features[rows],
        tuple(texts.texts[row] for row in rows),
        tuple(texts.labels[row] for row in rows),
        tuple(texts.groups[row] for row in rows),
    )


def _mean(scores: list[HeadEvaluation]) -> tuple[float, float]:
    """Return mean loss and mean accuracy; folds are of one size, give or take a row per label."""
    return sum(one.loss for one in scores) / len(scores), sum(one.accuracy for one in scores) / len(scores)
