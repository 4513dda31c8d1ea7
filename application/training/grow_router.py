"""Use case: train a router on a data set that gained or lost an adapter, and tell what that does to the others."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from attrs import frozen

from application.datasets.grow_dataset import GrownDataset
from application.ports import (
    RouterStore,
    RouterTrainer,
    RowReader,
    TrainedRouter,
    TrainingObserver,
    TrainJob,
    TrainReport,
)
from application.routing.evaluate_router import EvaluateReport, require_same_labels
from application.training.training_data import rows_sha256
from domain.errors import MismatchError, TargetExistsError
from domain.router import RouterCard
from domain.split import Split
from domain.training import TrainOptions
from domain.training_events import Noted


@frozen
class GrowRouterRequest:
    """Which router grows, and where the new one goes.

    Attributes:
        router: the router that was trained on the old data set; it is left as it is.
        old_dataset: folder of the old data set.
        grown: the new data set.
        router_out: where the new router goes.
        base_model: hub id or folder of the base model; None for the one that the router was trained on.
        log_dir: folder for the metrics, or None for none.
        use_cache: whether the feature cache may be used; without it the old prompts are encoded again.
        out_of_scope: file of prompts that belong to no adapter, or None; a router's file does not have them.
    """

    router: Path
    old_dataset: Path
    grown: GrownDataset
    router_out: Path
    base_model: str | None = None
    log_dir: Path | None = None
    use_cache: bool = True
    out_of_scope: Path | None = None


@frozen
class AdapterChange:
    """What growing did to one adapter, on held-out prompts.

    Attributes:
        adapter: its name.
        before: recall of the old router, 0 to 1; None when it did not know the adapter.
        after: recall of the new router; None when it no longer knows the adapter.
    """

    adapter: str
    before: float | None
    after: float | None


@frozen
class GrowRouterReport:
    """A grown router, compared with the old one.

    Attributes:
        grown: the data set that it was trained on.
        router_path: where the new router lies.
        training: the training run; None when an earlier run, cut off later, had trained this very router.
        before: the old router on the old data set's held-out prompts.
        after: the new router on the new data set's held-out prompts.
        changes: per adapter, in label order, adapters that left last.
        cards: descriptions of the old and of the new router.
    """

    grown: GrownDataset
    router_path: Path
    training: TrainReport | None
    before: EvaluateReport
    after: EvaluateReport
    changes: tuple[AdapterChange, ...]
    cards: tuple[RouterCard, RouterCard]


@frozen(eq=False)
class GrowRouter:
    """Retrains with the old router's layers, pooling, head and seed, so that cached features serve again.

    Attributes:
        trainer: trains the new router.
        routers: where both routers lie.
        rows: reads data sets.
        score: scores a router on one file of rows.
    """

    trainer: RouterTrainer
    routers: RouterStore
    rows: RowReader
    score: Callable[[TrainedRouter, Path], EvaluateReport]

    def __call__(self, request: GrowRouterRequest, observer: TrainingObserver) -> GrowRouterReport:
        """Train, unless an earlier run of the same request has, and compare.

        Raises:
            TargetExistsError: another router lies where the new one goes.
            MismatchError: the router was not trained on the old data set's labels.
            MissingFileError, RouterFileError, DataRejectedError: an input cannot be used.
        """
        old = self.check(request.router, request.old_dataset)
        if old.card.n_out_of_scope and request.out_of_scope is None:
            observer.on_event(
                Noted(
                    f"warning: the old router knows {old.card.n_out_of_scope} out-of-scope examples, but its file "
                    "does not keep their texts: the new one knows none, and refuses fewer prompts that belong to no "
                    "adapter (give the file of these prompts again)"
                )
            )
        job = _job(request, old)
        training = None if self._is_trained(job, request.grown) else self.trainer.train(job, observer)
        path = request.router_out if training is None else training.router_path
        new = self.routers.load(path)
        held_out = f"{Split.EVAL if request.grown.counts[Split.EVAL] else Split.VAL}.jsonl"
        before = self.score(old, request.old_dataset / held_out)
        after = self.score(new, request.grown.path / held_out)
        cards = (old.card, new.card)
        return GrowRouterReport(request.grown, path, training, before, after, _changes(before, after), cards)

    def check(self, router: Path, old_dataset: Path) -> TrainedRouter:
        """Return the old router; raises MismatchError unless it knows the data set's adapters by the same labels."""
        old = self.routers.load(router)
        path = old_dataset / f"{Split.TRAIN}.jsonl"
        rows = self.rows.read_rows(path)
        try:
            require_same_labels(old.card.labels, rows, path)
        except MismatchError as error:
            raise MismatchError(
                error.what, where=path, hint=f"the router was trained on a data set named {old.card.dataset}"
            ) from error
        return old

    def _is_trained(self, job: TrainJob, grown: GrownDataset) -> bool:
        if not grown.reused or not self.routers.replaced_by(job.router_out):
            return False
        card = self.routers.load(job.router_out).card
        features, options = card.features, job.options
        rows = rows_sha256(*(self.rows.read_rows(path) for path in (job.train_path, job.val_path)))
        made: tuple[object, ...] = (card.labels, card.dataset_sha256, card.head, card.seed, card.target_error)
        made += (features.layers, features.pooling, features.max_tokens, card.turn, card.n_out_of_scope > 0)
        wanted: tuple[object, ...] = (grown.labels, rows, options.head, options.seed, options.target_error)
        wanted += (options.layers, options.pooling, options.max_tokens, job.turn, job.out_of_scope_path is not None)
        if made != wanted:
            raise TargetExistsError("already exists", where=job.router_out, hint="name another file")
        return True


def _job(request: GrowRouterRequest, old: TrainedRouter) -> TrainJob:
    card = old.card
    options = TrainOptions(
        layers=card.features.layers,
        pooling=card.features.pooling,
        head=card.head,
        seed=card.seed,
        target_error=card.target_error,
        max_tokens=card.features.max_tokens,
    )
    return TrainJob(
        train_path=request.grown.path / f"{Split.TRAIN}.jsonl",
        val_path=request.grown.path / f"{Split.VAL}.jsonl",
        base_model=request.base_model or card.features.base.name,
        router_out=request.router_out,
        log_dir=request.log_dir,
        options=options,
        out_of_scope_path=request.out_of_scope,
        use_cache=request.use_cache,
        turn=card.turn,
    )


def _changes(before: EvaluateReport, after: EvaluateReport) -> tuple[AdapterChange, ...]:
    old = {one.adapter: one.recall for one in before.figures.adapters}
    new = {one.adapter: one.recall for one in after.figures.adapters}
    names = [*new, *(name for name in old if name not in new)]
    return tuple(AdapterChange(name, old.get(name), new.get(name)) for name in names)
