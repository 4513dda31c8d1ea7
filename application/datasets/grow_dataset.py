"""Use cases: add an adapter to a routing data set, or take one out, without touching the other adapters' rows."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

from attrs import evolve, frozen

from application.datasets.dataset_card import dataset_card
from application.datasets.dataset_metadata import account_from_json, dataset_metadata, format_from_json, turn_of
from application.datasets.dataset_request import GenerateRequest
from application.datasets.draw_balanced import draw_balanced
from application.ports.datasets import DatasetReader, DatasetStore, Source, SourceReader
from application.ports.runtime import Clock
from domain.datasets import RejectedLine, RoutingDataset, SourceAccount
from domain.errors import DataRejectedError, MissingFileError, StorageError, UsageError
from domain.labels import LabelMap
from domain.references import ReferenceAnswer
from domain.samples import RoutingSample, normalise_text
from domain.sampling import seeded, shuffle
from domain.split import Split

_TIMED = re.compile(r"(.+?)_\d{8}_\d{6}(?:_\d+)?")

Splits = Mapping[Split, tuple[RoutingSample, ...]]

_REMEDY = (
    "it needs as many as each of the others has: give more data, or generate the old data set anew with fewer "
    "training and evaluation samples"
)


@frozen
class GrownDataset:
    """A data set with one adapter more or less.

    Attributes:
        path: its folder.
        labels: its label map.
        counts: rows by split.
        changed: rows by split of the adapter that came or went.
        account: what became of every line of the new adapter's source; None when one was taken out.
        reused: whether an earlier run of the same request, cut off later, had made it.
    """

    path: Path
    labels: LabelMap
    counts: Mapping[Split, int]
    changed: Mapping[Split, int]
    account: SourceAccount | None = None
    reused: bool = False


@frozen
class ExistingDataset:
    """A data set that was read back, and maybe changed since, with the request that made it.

    Attributes:
        path: the folder that it was read from.
        request: the request, as far as its metadata says.
        splits: its rows.
        accounts: what became of the lines of each source, in label order.
        answers: the reference answers of its held-out rows, if it keeps any.
    """

    path: Path
    request: GenerateRequest
    splits: Splits
    accounts: tuple[SourceAccount, ...]
    answers: tuple[ReferenceAnswer, ...] = ()


@frozen
class AddToDataset:
    """Draws as many rows for a new adapter as the others have, and stores old and new rows as a new data set.

    The new adapter gets the next label, so that all others keep theirs, and its rows are read by the turn of the
    data set. A text that another adapter already owns is not taken (it counts as a conflict).

    Attributes:
        sources: reads the new adapter's own data.
        store: where both data sets lie.
        clock: dates the new one.
    """

    sources: SourceReader
    store: DatasetStore
    clock: Clock

    def __call__(
        self, dataset_dir: Path, source: Source, *, output_dir: Path | None, tool_version: str
    ) -> GrownDataset:
        """Make the larger data set.

        Raises:
            UsageError: the adapter is already in the data set.
            DataRejectedError: the source has too few usable rows, or the old data set cannot be used.
            MissingFileError: a file is not there.
            TargetExistsError: `output_dir` is taken by anything but this very data set.
        """
        old = read_existing(self.store, dataset_dir)
        if source.adapter in old.request.labels:
            raise UsageError(f"adapter {source.adapter!r} is already in the data set", where=dataset_dir)
        source = evolve(source, turn=old.request.turn, keep_rows=old.request.answers)
        wanted = {split: round(len(rows) / len(old.request.labels)) for split, rows in old.splits.items()}
        taken = {normalise_text(row.text) for rows in old.splits.values() for row in rows}
        with self.sources.open(source, seed=old.request.seed, expected=sum(wanted.values())) as draws:
            drawn = draw_balanced(
                [(draws.source, draws)], sum(wanted.values()), allow_fewer=False, taken=taken, remedy=_REMEDY
            )
            source = draws.source
        label = len(old.request.labels)
        new_rows = [evolve(row, label=label) for row in drawn.rows[0]]
        splits: dict[Split, tuple[RoutingSample, ...]] = {}
        for split, rows in old.splits.items():
            mixed = [*rows, *new_rows[: wanted[split]]]
            del new_rows[: wanted[split]]
            shuffle(mixed, seeded(old.request.seed, "order", split, source.adapter))
            splits[split] = tuple(mixed)
        new = evolve(
            old,
            request=evolve(old.request, sources=(*old.request.sources, source), tool_version=tool_version),
            splits=splits,
            accounts=(*old.accounts, *drawn.accounts),
            answers=(*old.answers, *drawn.reference_answers(splits[Split.EVAL])),
        )
        path, reused = store_grown(self.store, self.clock, new, output_dir, rejects=drawn.rejects)
        return GrownDataset(path, new.request.labels, _counts(splits), wanted, drawn.accounts[0], reused)


@frozen
class RemoveFromDataset:
    """Stores a data set without one adapter's rows; labels above it move down by one.

    Attributes:
        store: where both data sets lie.
        clock: dates the new one.
    """

    store: DatasetStore
    clock: Clock

    def __call__(
        self, dataset_dir: Path, adapter: str, *, output_dir: Path | None, tool_version: str
    ) -> GrownDataset:
        """Make the smaller data set.

        Raises:
            UsageError: the adapter is not in the data set, or fewer than two would be left.
            DataRejectedError: the old data set cannot be used.
            MissingFileError: a file is not there.
            TargetExistsError: `output_dir` is taken by anything but this very data set.
        """
        old = read_existing(self.store, dataset_dir)
        gone = old.request.labels.label_of(adapter)
        if len(old.request.labels) < 3:
            raise UsageError(
                f"without {adapter!r} fewer than two adapters are left to choose from", where=dataset_dir
            )
        request = evolve(
            old.request,
            sources=tuple(source for source in old.request.sources if source.adapter != adapter),
            tool_version=tool_version,
        )
        splits = {
            split: tuple(
                evolve(row, label=request.labels.label_of(row.adapter)) for row in rows if row.adapter != adapter
            )
            for split, rows in old.splits.items()
        }
        accounts = tuple(account for label, account in enumerate(old.accounts) if label != gone)
        new = evolve(old, request=request, splits=splits, accounts=accounts)
        path, reused = store_grown(self.store, self.clock, new, output_dir)
        removed = {split: len(rows) - len(splits[split]) for split, rows in old.splits.items()}
        return GrownDataset(path, request.labels, _counts(splits), removed, reused=reused)


def read_existing(store: DatasetReader, folder: Path) -> ExistingDataset:
    """Read a generated data set back; raises DataRejectedError when its metadata does not tell how it was made."""
    metadata = store.read_metadata(folder)
    try:
        labels = LabelMap.from_mapping({name: one["label"] for name, one in metadata["adapters"].items()})
        request = GenerateRequest(
            sources=tuple(_source(name, metadata) for name in labels.names),
            prefix=metadata["dataset_name"],
            train_samples=metadata["options"]["train_samples"],
            eval_samples=metadata["options"]["eval_samples"],
            train_val_split=metadata["train_val_split"],
            seed=metadata["seed"],
        )
        accounts = tuple(account_from_json(name, metadata["accounting"][name]) for name in labels.names)
        held_out = metadata["samples"]["eval"]
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise DataRejectedError(f"metadata lacks {error}", where=folder, hint="make the data set anew") from error
    splits = {
        split: tuple(store.read_rows(folder / f"{split}.jsonl")) if split is not Split.EVAL or held_out else ()
        for split in Split
    }
    answers = _answers(store, folder)
    return ExistingDataset(folder, evolve(request, answers=bool(answers)), splits, accounts, answers)


def _answers(store: DatasetReader, folder: Path) -> tuple[ReferenceAnswer, ...]:
    """Return the reference answers; none of a data set that keeps none, or was published without them."""
    try:
        return tuple(store.read_answers(folder))
    except MissingFileError:
        return ()


def _source(adapter: str, metadata: Mapping[str, Any]) -> Source:
    options = metadata["options"]
    return Source(
        adapter,
        Path(metadata["adapters"][adapter]["source_dataset"]),
        row_format=format_from_json(options["row_format"][adapter]),
        turn=turn_of(metadata),
        line_limit=options["line_limit"][adapter],
    )


def _counts(splits: Splits) -> dict[Split, int]:
    return {split: len(rows) for split, rows in splits.items()}


def _prefix(origin: Path, request: GenerateRequest) -> str:
    """Return how the old data set's folder is called without its time stamp, so that old and new stand together."""
    if origin.name in ("", ".."):  # the working folder, its parent
        return request.prefix
    timed = _TIMED.fullmatch(origin.name)
    return timed[1] if timed else origin.name


def store_grown(
    store: DatasetStore,
    clock: Clock,
    new: ExistingDataset,
    output_dir: Path | None,
    *,
    rejects: tuple[RejectedLine, ...] = (),
    more: Mapping[str, Any] = MappingProxyType({}),
) -> tuple[Path, bool]:
    """Store a data set that was read and then changed; return its folder, and whether it was there already.

    `more` comes to the metadata; of the answers those of its held-out rows are kept.
    """
    now, splits = clock.now(), new.splits
    by_text = {one.text: one for one in new.answers}
    kept = tuple(by_text[row.text] for row in splits[Split.EVAL] if row.text in by_text)
    made = dataset_metadata(new.request, now, splits, new.accounts, (), kept)
    metadata = {**made, "grown_from": str(new.path), **more}
    for candidate in [output_dir] if output_dir else store.data_sets_in(new.path.parent):
        if _is_same(store, candidate, metadata, splits):
            return candidate, True
    target = output_dir or new.path.parent / f"{_prefix(new.path, new.request)}_{now:%Y%m%d_%H%M%S}"
    card = dataset_card(new.request, splits, new.accounts, kept)
    with store.reserve(target, unique=output_dir is None) as reserved:
        reserved.commit(RoutingDataset(new.request.labels, splits, metadata, card, rejects, kept))
        return reserved.path, False


def _is_same(store: DatasetReader, folder: Path, metadata: Mapping[str, Any], splits: Splits) -> bool:
    """Tell whether an earlier run, killed before it had trained, made this very data set already."""
    try:
        found = store.read_metadata(folder)
        if any(
            found.get(key) != value for key, value in metadata.items() if key not in ("created_at", "tool_version")
        ):
            return False
        return all(
            tuple(store.read_rows(folder / f"{split}.jsonl")) == rows for split, rows in splits.items() if rows
        )
    except (MissingFileError, DataRejectedError, StorageError):
        return False
