"""Use case: make a larger data set out of what people said of a server's answers."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from attrs import evolve, frozen

from application.datasets.grow_dataset import ExistingDataset, GrownDataset, read_existing, store_grown
from application.ports.datasets import DatasetStore
from application.ports.runtime import Clock
from application.ports.traffic import TrafficReader
from domain.datasets import SourceAccount
from domain.errors import DataRejectedError
from domain.samples import RoutingSample, normalise_text
from domain.split import Split
from domain.traffic import joined


@frozen
class LearnReport:
    """What became of the feedback.

    Attributes:
        grown: the new data set.
        corrected: rows that came to it.
        known: prompts that the data set had already, under the same adapter.
        conflicts: prompts that it has under another adapter, or holds out; they were left out.
        without_text: answers whose prompts the log does not have.
        unknown: answers whose right adapter the data set does not have.
        out_of_scope: prompts that belong to no adapter, for the next training.
    """

    grown: GrownDataset
    corrected: int
    known: int
    conflicts: int
    without_text: int
    unknown: int
    out_of_scope: tuple[str, ...]


@frozen(eq=False)
class LearnFromFeedback:
    """Adds prompts with the adapter that people named for them.

    Attributes:
        log: reads the server's log.
        store: where both data sets lie.
        clock: dates the new one.
    """

    log: TrafficReader
    store: DatasetStore
    clock: Clock

    def __call__(self, log: Path, dataset_dir: Path, *, output_dir: Path | None, tool_version: str) -> LearnReport:
        """Make the larger data set.

        Raises:
            DataRejectedError: the feedback gives no new row, or a file cannot be used.
            MissingFileError: a file is not there.
            TargetExistsError: `output_dir` is taken.
        """
        old = read_existing(self.store, dataset_dir)
        labels = old.request.labels
        taken = {normalise_text(row.text): row.adapter for rows in old.splits.values() for row in rows}
        held_out = {normalise_text(row.text) for row in old.splits[Split.EVAL]}
        counts = dict.fromkeys(("known", "conflicts", "without_text", "unknown"), 0)
        new: list[RoutingSample] = []
        out_of_scope: dict[str, str] = {}
        for decision, said in joined(*self.log.read(log)):
            text = decision.prompt if decision.has_text else None
            key = normalise_text(text or "")
            if text is None or not key:
                counts["without_text"] += 1
            elif said.correct is None:
                out_of_scope.setdefault(key, text)
            elif said.correct not in labels:
                counts["unknown"] += 1
            elif taken.get(key, said.correct) != said.correct or key in held_out:
                counts["conflicts"] += 1
            elif key in taken:
                counts["known"] += 1
            else:
                taken[key] = said.correct
                new.append(RoutingSample(text, labels.label_of(said.correct), said.correct, f"feedback:{said.id}"))
        if not new:
            raise DataRejectedError(
                f"the feedback gives no new row: {_described(counts) or 'it corrects no answer'}",
                where=log,
                hint="the log holds texts only where prompts are logged" if counts["without_text"] else None,
            )
        placed = _placed(new, old)
        added = {split: tuple(row for row, to in placed if to is split) for split in Split}
        splits = {split: (*rows, *added[split]) for split, rows in old.splits.items()}
        accounts = tuple(_with(account, new) for account in old.accounts)
        request = evolve(old.request, tool_version=tool_version)
        new_set = evolve(old, request=request, splits=splits, accounts=accounts)
        path, reused = store_grown(self.store, self.clock, new_set, output_dir, more={"learned_from": str(log)})
        sizes = {split: len(rows) for split, rows in splits.items()}
        grown = GrownDataset(path, labels, sizes, {split: len(rows) for split, rows in added.items()}, reused=reused)
        return LearnReport(grown, len(new), **counts, out_of_scope=tuple(out_of_scope.values()))


def _with(account: SourceAccount, rows: list[RoutingSample]) -> SourceAccount:
    """Return an adapter's account with its new rows as lines that were drawn and kept."""
    more = sum(row.adapter == account.adapter for row in rows)
    return evolve(account, lines=account.lines + more, drawn=account.drawn + more, kept=account.kept + more)


def _described(counts: Mapping[str, int]) -> str:
    words = {
        "known": "known already",
        "conflicts": "in conflict with the data set, or held out",
        "without_text": "without a text",
        "unknown": "for adapters that the data set does not have",
    }
    return ", ".join(f"{counts[name]} {what}" for name, what in words.items() if counts[name])


def _placed(rows: list[RoutingSample], old: ExistingDataset) -> list[tuple[RoutingSample, Split]]:
    """Return each row with the split that it comes to, so that the data set's share of training rows stays."""
    train, val = len(old.splits[Split.TRAIN]), len(old.splits[Split.VAL])
    placed = []
    for row in rows:
        trains = train + 1 <= old.request.train_val_split * (train + val + 1) + 0.5
        train, val = train + trains, val + (not trains)
        placed.append((row, Split.TRAIN if trains else Split.VAL))
    return placed
