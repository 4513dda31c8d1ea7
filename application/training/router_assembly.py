"""From a trained head to a router: calibration, the card, the file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from attrs import evolve, frozen

from application.ports import (
    Clock,
    HeadProblem,
    HeadTrainer,
    LeftOutFold,
    RouterCalibrator,
    RouterStore,
    TrainedRouter,
    TrainJob,
    UncalibratedRouter,
)
from application.training.fit_head import FittedHead
from application.training.head_problems import HeadProblems
from application.training.left_out_rows import LeftOutRows
from application.training.training_data import TrainingData
from application.training.training_loop import StepPlan
from application.training.training_prompts import FOLDS
from domain.features import Matrix
from domain.router import RouterCard


@frozen
class RouterAssembly:
    """Makes and saves routers.

    Attributes:
        heads: fits heads.
        calibrator: fits confidence and abstention.
        routers: where routers go.
        clock: tells when the router was made.
        tool_version: version of this software.
    """

    heads: HeadTrainer
    calibrator: RouterCalibrator
    routers: RouterStore
    clock: Clock
    tool_version: str

    def __call__(
        self, job: TrainJob, data: TrainingData, problems: HeadProblems, fitted: FittedHead
    ) -> tuple[Path, TrainedRouter, tuple[str, ...]]:
        """Fit again without each fold, drop rows that seem mislabelled, calibrate, fit for good, save.

        Return the file to load the router from, the router, and notes for people. The head that serves is fitted to
        all rows, those of validation included, as the run's head was to its own: from the closed form, with as many
        steps as were best.

        Raises:
            StorageError: the file system refused.
        """
        left_out = self._all_left_out(problems, fitted, job)
        rows = LeftOutRows.of(problems, data, left_out)
        doubtful = rows.mislabelled()
        notes = tuple(rows.confusions(doubtful))
        if doubtful:
            notes = (rows.told(list(doubtful)), *notes)
            problems = evolve(problems, doubts=doubtful)
            left_out = self._all_left_out(problems, fitted, job)
        tensors = self._again(problems.for_serving(), fitted, job)
        calibration = self.calibrator.calibrate(
            UncalibratedRouter(
                data.labels,
                problems.chosen.spec,
                fitted.kind,
                tensors,
                problems.known(),
                problems.background(),
                problems.out_of_scope(),
            ),
            left_out,
            target_error=job.options.target_error,
            cleaned=bool(doubtful),
        )
        card = RouterCard(
            labels=data.labels,
            features=problems.chosen.spec,
            head=fitted.kind,
            temperature=calibration.temperature,
            thresholds=calibration.thresholds,
            target_error=calibration.target_error,
            seed=job.options.seed,
            n_train=len(data.train),
            n_val=len(data.val),
            n_out_of_scope=data.prompts.n_given,
            val_accuracy=fitted.state.best_accuracy,
            dataset=data.dataset,
            dataset_sha256=data.sha256,
            created_at=self.clock.now().isoformat(),
            tool_version=self.tool_version,
            turn=data.turn,
            trade_off=calibration.trade_off,
        )
        router = TrainedRouter(card, {**tensors, **calibration.tensors}, calibration.bank_texts)
        return self.routers.save(router, job.router_out), router, (*notes, *calibration.notes)

    def _all_left_out(self, problems: HeadProblems, fitted: FittedHead, job: TrainJob) -> list[LeftOutFold]:
        folds = (self._left_out(problems, fitted, number, job) for number in range(FOLDS))
        return [fold for fold in folds if fold]

    def _left_out(self, problems: HeadProblems, fitted: FittedHead, fold: int, job: TrainJob) -> LeftOutFold | None:
        if all(row.fold != fold for row in problems.prompts.rows):
            return None
        tensors = self._again(problems.without(fold), fitted, job)

        def logits(places: Sequence[int]) -> Matrix:
            features, texts = problems.chosen.matrix[list(places)], problems.texts(places)
            return self.heads.logits(fitted.kind, tensors, features, texts)

        return problems.left_out(fold, logits)

    def _again(self, problem: HeadProblem, fitted: FittedHead, job: TrainJob) -> Mapping[str, Matrix]:
        """Return the tensors of a head that is fitted to another problem as the run's head was to its own."""
        options = job.options
        session = self.heads.start(fitted.kind, problem, options.learning_rate, fitted.session)
        plan = StepPlan(len(problem.train.labels), options.batch_size, options.epochs, options.seed)
        for step in range(fitted.state.best_step or 0):
            session.train_step(plan.rows(step))
        return session.router_tensors(session.weights())
