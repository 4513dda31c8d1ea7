"""Training a router in this process: data, features, head, calibration, router file.

:class:`TrainRouter` is the local :class:`application.ports.RouterTrainer`; a GPU elsewhere runs the same class.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import datetime
from functools import partial
from pathlib import Path, PurePath

from attrs import field, frozen

from application.ports import (
    CheckpointStore,
    Clock,
    DatasetReader,
    FeatureExtractor,
    FeatureExtractorSource,
    FeatureProbe,
    HeadTrainer,
    Interruption,
    MetricsLog,
    PromptReader,
    RouterCalibrator,
    RouterStore,
    TrainingObserver,
    TrainJob,
    TrainReport,
)
from application.training.choose_features import choose_features, require_candidates
from application.training.fit_head import FittedHead, HeadFitting
from application.training.head_problems import HeadProblems, head_problems
from application.training.router_assembly import RouterAssembly
from application.training.run_checkpoints import RunCheckpoints, checkpoint_folder, job_key
from application.training.run_observers import RunObservers, announce, describe
from application.training.training_data import Companions, TrainingData, read_training_data
from domain.errors import InterruptedRunError, TrainingDivergedError, UsageError
from domain.feature_choice import deepest_layer
from domain.training import StopReason
from domain.training_events import Calibrated, Emit, Noted, RunStopped


@frozen
class TrainRouter:
    """Trains routers here.

    Attributes:
        rows: reads training and validation rows, and what their data set says of itself.
        prompts: reads out-of-scope prompts.
        extractors: loads base models.
        probe: judges candidate features.
        heads: trains heads.
        calibrator: fits confidence and abstention.
        routers: where routers go.
        checkpoints: keeps what a killed run goes on from.
        metrics: keeps metrics for TensorBoard.
        interruption: tells of signals.
        clock: tells the time.
        tool_version: version of this software, for the router's card.
        companions: packaged texts that belong to no adapter and take part.
    """

    rows: DatasetReader
    prompts: PromptReader
    extractors: FeatureExtractorSource
    probe: FeatureProbe
    heads: HeadTrainer
    calibrator: RouterCalibrator
    routers: RouterStore
    checkpoints: CheckpointStore
    metrics: MetricsLog
    interruption: Interruption
    clock: Clock
    tool_version: str
    companions: Companions = field(factory=Companions)

    def train(self, job: TrainJob, observer: TrainingObserver) -> TrainReport:
        """Run the job to its end, or on from where an earlier attempt at the same job was interrupted.

        Raises:
            UsageError: the options do not fit the base model, name an unknown head, or a place that no router can be
                written to.
            TargetExistsError: something else than a router is where the router is to go.
            DataRejectedError: the rows cannot be used.
            StorageError: router or checkpoints cannot be written.
            TrainingDivergedError: the loss left the finite numbers; the best router so far was saved, if any.
            InterruptedRunError: a signal ended the run; the same job resumes.
        """
        if job.options.head not in ("auto", *self.heads.kinds):
            known = ", ".join(("auto", *self.heads.kinds))
            raise UsageError(f"unknown kind of router head {job.options.head!r}", hint=f"known: {known}")
        self.routers.check_target(job.router_out)
        watch = _Stopwatch(self.clock)
        data = read_training_data(self.rows, self.prompts, job, self.companions)
        with watch.phase("loading"):
            extractor = self.extractors(
                job.base_model,
                max_tokens=job.options.max_tokens,
                use_cache=job.use_cache,
                max_layer=partial(deepest_layer, layers=job.options.layers, pooling=job.options.pooling),
            )
        require_candidates(extractor, job.options)
        kept = RunCheckpoints(self.checkpoints, checkpoint_folder(job.router_out), job_key(job, data, extractor.base))
        with ExitStack() as open_logs:
            return self._run(_Run(job, data, kept, watch), extractor, RunObservers([observer], open_logs))

    def _run(self, run: _Run, extractor: FeatureExtractor, observers: RunObservers) -> TrainReport:
        job, data, kept = run.job, run.data, run.kept
        earlier = kept.load_features(extractor.base)
        saved = kept.load_head() if earlier else None
        run_name = earlier[1] if earlier else _run_name(self.clock.now(), data.dataset, extractor.base.name)
        log_dir = observers.open(self.metrics, job.log_dir, run_name, from_step=saved.state.step + 1 if saved else 0)
        replaced = self.routers.replaced_by(job.router_out)
        announce(job, data, extractor.base.name, log_dir, replaced, observers.emit)
        if earlier:
            chosen = earlier[0]
        else:
            with run.watch.phase("features"):
                chosen = choose_features(extractor, self.probe, data, job.options, observers.emit)
            kept.save_features(chosen, run_name)
        describe(chosen, data, observers.emit)
        with run.watch.phase("head"):
            problems = head_problems(data, chosen, self.heads, job.options.seed, observers.emit)
            fitting = HeadFitting(self.heads, self.interruption, observers.emit)
            fitted = fitting(problems.for_training(), job.options, kept, saved)
        return self._finish(run, problems, fitted, observers.emit, log_dir)

    def _finish(
        self, run: _Run, problems: HeadProblems, fitted: FittedHead, emit: Emit, log_dir: Path | None
    ) -> TrainReport:
        state, reason, kept = fitted.state, StopReason(str(fitted.state.reason)), run.kept
        emit(RunStopped(state.step, reason, state.early.best_loss, state.best_accuracy, state.best_step))
        if reason is StopReason.INTERRUPTED:
            raise InterruptedRunError(
                f"interrupted after step {state.step}; a checkpoint was kept",
                where=kept.folder,
                hint="run the same command to go on",
                signal_number=fitted.signal or 15,
            )
        if fitted.tensors is None:
            kept.clear()
            raise _diverged(state.step, "no router was saved: no evaluation had a finite loss")
        assembly = RouterAssembly(self.heads, self.calibrator, self.routers, self.clock, self.tool_version)
        emit(Noted("fitting the limits: the head is trained again without each fifth of the prompts"))
        with run.watch.phase("calibration"):
            path, router, notes = assembly(run.job, run.data, problems, fitted)
        labels, known = (router.tensors[name] for name in ("bank.labels", "bank.features"))
        emit(Calibrated(router.card, known, labels, router.bank_texts))
        for note in notes:
            emit(Noted(note))
        kept.clear()
        if reason is StopReason.DIVERGED:
            raise _diverged(
                state.step, f"the best router so far (eval_loss {state.early.best_loss:.4f}) is in {path}"
            )
        return TrainReport(
            router_path=path,
            card=router.card,
            steps=state.step,
            stop_reason=reason,
            best_loss=state.early.best_loss,
            best_accuracy=state.best_accuracy,
            best_step=state.best_step or 0,
            log_dir=log_dir,
            seconds=dict(run.watch.seconds),
        )


def _run_name(now: datetime, dataset: str, base_model: str) -> str:
    """Return the name of a run's folder: when it began, and on what it trains."""
    parts = (re.sub(r"[^\w.-]+", "-", PurePath(name).name)[:40] for name in (dataset, base_model))
    return "_".join([f"router_{now:%Y%m%d_%H%M%S}", *parts])


def _diverged(step: int, outcome: str) -> TrainingDivergedError:
    return TrainingDivergedError(
        f"training diverged: the loss at step {step} is not finite; {outcome}", hint="try a lower learning rate"
    )


@frozen(eq=False)
class _Stopwatch:
    """Wall-clock seconds of each phase."""

    clock: Clock
    seconds: dict[str, float] = field(factory=dict)

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        started = self.clock.now()
        yield
        self.seconds[name] = (self.clock.now() - started).total_seconds()


@frozen(eq=False)
class _Run:
    """One run of a job: its data, what it keeps to go on from, and its time."""

    job: TrainJob
    data: TrainingData
    kept: RunCheckpoints
    watch: _Stopwatch
