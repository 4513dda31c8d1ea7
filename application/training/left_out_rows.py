"""What heads that have not seen a run's rows say of them: which labels are wrong, and which adapters are alike."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Final

from attrs import frozen

from application.ports import LeftOutFold
from application.training.head_problems import HeadProblems
from application.training.training_data import TrainingData
from domain.label_noise import confused_labels, mislabelled

SHOWN: Final = 3
"""So many rows that seem mislabelled are named."""


@frozen(eq=False)
class LeftOutRows:
    """The rows of a run, each with the logits of a head that has not seen it.

    Attributes:
        problems: the run's problems.
        data: where the rows are from.
        logits: by the number of the row: for each label the highest among the row's pieces.
    """

    problems: HeadProblems
    data: TrainingData
    logits: Mapping[int, Sequence[float]]

    @classmethod
    def of(cls, problems: HeadProblems, data: TrainingData, left_out: Sequence[LeftOutFold]) -> LeftOutRows:
        """Return the rows with what `left_out` says of them: the folds that have rows, in order."""
        return cls(problems, data, dict(_own_logits(problems, left_out)))

    def mislabelled(self) -> dict[int, float]:
        """Return the rows whose label is most likely wrong, each with the chance that it is right after all.

        See :func:`domain.label_noise.mislabelled`.
        """
        numbers = list(self.logits)
        found = mislabelled(list(self.logits.values()), [self.problems.prompts.rows[row].label for row in numbers])
        return {numbers[place]: chance for place, chance in sorted(found.items(), key=lambda each: numbers[each[0]])}

    def told(self, doubtful: Sequence[int]) -> str:
        """Return a warning of rows that are left out because their label seems wrong."""
        rows = [(*self.data.train, *self.data.val)[number] for number in doubtful[:SHOWN]]
        shown = "; ".join(f"{row.text[:60]!r} ({row.adapter}, {row.source_id})" for row in rows)
        return (
            f"warning: {len(doubtful)} of {len(self.problems.prompts.rows)} rows most likely have a wrong label: "
            f"routers that have not seen them are sure of another adapter. The router is trained without them: "
            f"{shown}"
            f"{'; …' if len(doubtful) > SHOWN else ''}"
        )

    def confusions(self, doubtful: Mapping[int, float]) -> Iterator[str]:
        """Yield a warning of each two adapters that are hard to tell apart, doubtful rows aside.

        See :func:`domain.label_noise.confused_labels`.
        """
        kept = {number: row for number, row in self.logits.items() if number not in doubtful}
        best = [max(range(len(row)), key=row.__getitem__) for row in kept.values()]
        labels = [self.problems.prompts.rows[number].label for number in kept]
        for (one, other), (swapped, rows) in confused_labels(best, labels).items():
            first, second = self.data.labels.name_of(one), self.data.labels.name_of(other)
            yield (
                f"warning: {first} and {second} are hard to tell apart: routers that have not seen them take "
                f"{swapped} of their {rows} rows for the other's. That makes limits stricter for all adapters, and "
                "more is refused. Merge the two, train without one of them, or give them rows that differ more"
            )


def _own_logits(problems: HeadProblems, left_out: Sequence[LeftOutFold]) -> Iterator[tuple[int, list[float]]]:
    rows = problems.prompts.rows
    folds = sorted({row.fold for row in rows})
    for fold, made in zip(folds, left_out, strict=True):
        own = iter(number for number, row in enumerate(rows) if row.fold == fold)
        place = 0
        for size, label, changed in zip(made.sizes, made.labels, made.changed, strict=True):
            if label < problems.n_labels and not changed:
                pieces = [list(map(float, made.logits[at][:-1])) for at in range(place, place + size)]
                yield next(own), [max(values) for values in zip(*pieces, strict=True)]
            place += size
