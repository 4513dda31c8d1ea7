"""Use case: make a balanced routing data set out of the adapters' own training data."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from attrs import evolve, frozen

from application.datasets.dataset_card import dataset_card
from application.datasets.dataset_metadata import answer_counts, dataset_metadata
from application.datasets.dataset_request import GenerateReport, GenerateRequest, ValidatedSource
from application.datasets.draw_balanced import Balanced, draw_balanced
from application.datasets.validate_sources import validate_source
from application.ports.datasets import DatasetStore, ReservedDataset, Source, SourceReader
from application.ports.runtime import Clock, ProgressReporter
from domain.datasets import RejectedLine, RoutingDataset
from domain.samples import RoutingSample
from domain.sampling import seeded, shuffle
from domain.split import Split, largest_remainder_split

__all__ = ["GenerateDataset", "GenerateReport", "GenerateRequest", "assign_splits"]


@frozen
class GenerateDataset:
    """Draws balanced rows from each adapter's source, splits them and stores the data set.

    Attributes:
        sources: reads the adapters' own data.
        store: keeps the result.
        clock: dates it.
        progress: told after every source.
    """

    sources: SourceReader
    store: DatasetStore
    clock: Clock
    progress: ProgressReporter

    def __call__(self, request: GenerateRequest) -> GenerateReport:
        """Make the data set; without success nothing is left behind.

        Raises:
            DataRejectedError: too few usable rows, or (strict) a bad line.
            MissingFileError: a source is not there.
            TargetExistsError: the folder is already there.
            StorageError: the file system refused.
        """
        now = self.clock.now()
        named = request.output_dir
        target = named or Path("datasets") / f"{request.prefix}_{now:%Y%m%d_%H%M%S}"
        with self.store.reserve(target, unique=named is None, replace=request.replace) as reserved:
            validated, validation_rejects = self._validate(request)
            balanced, known = self._draw(request)
            request = evolve(request, sources=known)
            n_rows = len(balanced.rows[0])
            n_eval = held_out_rows(n_rows, request)
            splits = assign_splits(balanced.rows, n_eval, request.train_val_split, request.seed)
            answers = tuple(balanced.reference_answers(splits[Split.EVAL]))
            dataset = RoutingDataset(
                labels=request.labels,
                splits=splits,
                metadata=dataset_metadata(request, now, splits, balanced.accounts, validated, answers),
                card=dataset_card(request, splits, balanced.accounts, answers),
                rejects=validation_rejects if validated else balanced.rejects,
                answers=answers,
            )
            return self._commit(reserved, request, dataset, balanced, validated, n_eval)

    def _validate(self, request: GenerateRequest) -> tuple[tuple[ValidatedSource, ...], tuple[RejectedLine, ...]]:
        if not (request.validate or request.strict):
            return (), ()
        results = []
        with self.progress.track("Validating", len(request.sources)) as task:
            for source in request.sources:
                with self.sources.read_all(source) as lines:
                    results.append(validate_source(source, lines, strict=request.strict))
                task.advance()
        return tuple(found for found, _ in results), tuple(line for _, first in results for line in first)

    def _draw(self, request: GenerateRequest) -> tuple[Balanced, tuple[Source, ...]]:
        """Return the rows, and the sources with what they were read as."""
        with ExitStack() as stack:
            draws = []
            with self.progress.track("Sampling", len(request.sources)) as task:
                for source in request.sources:
                    source = evolve(source, keep_rows=request.answers and request.eval_samples > 0)
                    opened = self.sources.open(source, seed=request.seed, expected=request.rows_per_adapter)
                    drawn = stack.enter_context(opened)
                    draws.append((drawn.source, drawn))
                    task.advance()
            known = tuple(source for source, _ in draws)
            return draw_balanced(draws, request.rows_per_adapter, allow_fewer=request.allow_fewer), known

    @staticmethod
    def _commit(
        reserved: ReservedDataset,
        request: GenerateRequest,
        dataset: RoutingDataset,
        balanced: Balanced,
        validated: tuple[ValidatedSource, ...],
        n_eval: int,
    ) -> GenerateReport:
        files = reserved.commit(dataset)
        return GenerateReport(
            request=request,
            path=reserved.path,
            labels=request.labels,
            counts={split: len(rows) for split, rows in dataset.splits.items()},
            per_adapter=(len(balanced.rows[0]) - n_eval, n_eval),
            accounts=balanced.accounts,
            validated=validated,
            files=files,
            n_rejects=len(dataset.rejects),
            n_answers=answer_counts(request, dataset.answers),
        )


def held_out_rows(n_rows: int, request: GenerateRequest) -> int:
    """Return how many of an adapter's rows are held out.

    All that were asked for, or their share when rows ran short: at least one where two rows are left to split.
    """
    share = n_rows * request.eval_samples // request.rows_per_adapter
    return max(share, 1) if request.eval_samples and n_rows > 1 else share


def assign_splits(
    rows: Sequence[Sequence[RoutingSample]], n_eval: int, train_share: float, seed: int
) -> dict[Split, tuple[RoutingSample, ...]]:
    """Give every row its split and mix the adapters.

    Args:
        rows: per adapter, in uniformly random order: so taking them in order is taking them at random.
        n_eval: rows per adapter that are held out for evaluation.
        train_share: share of training among the others, see :func:`domain.split.largest_remainder_split`.
        seed: decides the order of the rows within each split.
    """
    shares = largest_remainder_split([len(one) - n_eval for one in rows], train_share)
    parts: dict[Split, list[RoutingSample]] = {split: [] for split in Split}
    for one, n_train in zip(rows, shares, strict=True):
        parts[Split.EVAL] += one[:n_eval]
        parts[Split.TRAIN] += one[n_eval : n_eval + n_train]
        parts[Split.VAL] += one[n_eval + n_train :]
    for split, part in parts.items():
        shuffle(part, seeded(seed, "order", split))
    return {split: tuple(part) for split, part in parts.items()}
