"""What the reference answers say of each LoRA adapter, on its own prompts and on the others'.

The measure is the negative log-likelihood per token of the reference answer, in nats: the lower, the likelier the
adapter is to give that answer. Differences are paired, prompt by prompt; intervals come from resampling prompts.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Final

from attrs import frozen

from domain.bootstrap import Estimate, Means, resampled_means

BASE: Final = "base"
"""The bare base model's name; no adapter can have it."""

ALIKE: Final = 0.1
"""Two adapters are alike where they differ by less than this part of what fine-tuning gained over the base model."""

LEAST: Final = 0.01
"""Nats per token that count as no difference, whatever fine-tuning gained."""

ODDS: Final = 3.0
"""Nats over the whole answer from which another adapter is said to answer a prompt better: twenty times likelier."""


@frozen
class ScoredRow:
    """One held-out prompt, and how likely its reference answer is under the base model and every adapter.

    Attributes:
        adapter: whose data the prompt is from.
        source_id: its source row.
        text: the routed text.
        losses: nats per token under the base model, then under each adapter, in the order of their names.
        tokens: tokens of the reference answer.
        chosen: the adapter that the router picks; None where it abstains, and without a router.
        best: the adapter that it holds for the likeliest, picked or not; None without a router.
        confidence: its confidence in `best`.
        answers: what the base model and each adapter answer, where they were asked.
        matches: whether each of these is the reference answer.
    """

    adapter: str
    source_id: str
    text: str
    losses: tuple[float, ...]
    tokens: int
    chosen: str | None = None
    best: str | None = None
    confidence: float = 0.0
    answers: tuple[str, ...] = ()
    matches: tuple[bool, ...] = ()


@frozen
class Cell:
    """One adapter (or the base model) on the prompts of one data set.

    Attributes:
        dataset: whose data the prompts are from.
        adapter: who answers.
        loss: nats per token of the reference answers.
        behind: how far it lies behind the data set's own adapter; below 0 where it is ahead.
    """

    dataset: str
    adapter: str
    loss: Estimate
    behind: Estimate


@frozen
class Pair:
    """Two adapters that answer each other's prompts alike.

    Attributes:
        one: the first.
        other: the second.
        apart: how far the other one lies behind the owner on the prompts of each of the two that has prompts.
        shown: whether the intervals are narrow enough to show it; else the prompts are too few to tell.
    """

    one: str
    other: str
    apart: tuple[Estimate, ...]
    shown: bool


@frozen
class BetterElsewhere:
    """A prompt that another adapter answers better than its own.

    Attributes:
        row: its position among the rows.
        adapter: who answers it best.
        by: nats per token between both.
    """

    row: int
    adapter: str
    by: float


@frozen
class AdapterComparison:
    """Who is good at whose prompts.

    Attributes:
        names: the adapters.
        counts: prompts per data set.
        cells: per data set, the base model and then every adapter.
        gains: per adapter, how far it is ahead of the base model on its own prompts.
        no_better: adapters that are not shown to be better than the base model on their own prompts.
        outdone: per data set whose own adapter is behind another, that other one's cell.
        swapped: pairs of adapters each of which is the best at the other's prompts.
        alike: pairs of interchangeable adapters, and pairs that cannot be told apart.
        elsewhere: prompts that another adapter answers better, the clearest first.
    """

    names: tuple[str, ...]
    counts: dict[str, int]
    cells: tuple[Cell, ...]
    gains: dict[str, Estimate]
    no_better: tuple[str, ...]
    outdone: tuple[Cell, ...]
    swapped: tuple[tuple[str, str], ...]
    alike: tuple[Pair, ...]
    elsewhere: tuple[BetterElsewhere, ...]

    def cell(self, dataset: str, adapter: str) -> Cell:
        """Return one cell; raises KeyError."""
        return next(one for one in self.cells if (one.dataset, one.adapter) == (dataset, adapter))


def compare_adapters(rows: Sequence[ScoredRow], names: Sequence[str], *, seed: int = 42) -> AdapterComparison:
    """Return who is good at whose prompts.

    Args:
        rows: at least one per data set that is looked at.
        names: the adapters, in the order of the rows' losses after the base model's.
        seed: decides the resamples.
    """
    speakers = (BASE, *names)
    owned = {name: [row for row in rows if row.adapter == name] for name in names}
    owned = {name: own for name, own in owned.items() if own}
    drawn = resampled_means(
        {name: [[row.losses[place] for row in own] for place in range(len(speakers))] for name, own in owned.items()},
        seed=seed,
    )
    means = {name: dict(zip(speakers, series, strict=True)) for name, series in drawn.items()}
    cells = tuple(
        Cell(dataset, speaker, each.estimate, (each - series[dataset]).estimate)
        for dataset, series in means.items()
        for speaker, each in series.items()
    )
    gains = {name: (series[BASE] - series[name]).estimate for name, series in means.items()}
    outdone = tuple(best for name in means if (best := _ahead(cells, name)) is not None)
    leaders = {one.dataset: one.adapter for one in outdone}
    return AdapterComparison(
        names=tuple(names),
        counts={name: len(own) for name, own in owned.items()},
        cells=cells,
        gains=gains,
        no_better=tuple(name for name, gain in gains.items() if not gain.positive),
        outdone=outdone,
        swapped=tuple(
            (one, other)
            for one, other in combinations(means, 2)
            if (leaders.get(one), leaders.get(other)) == (other, one)
        ),
        alike=tuple(_alike(names, means, gains)),
        elsewhere=better_elsewhere(rows, names),
    )


def better_elsewhere(rows: Sequence[ScoredRow], names: Sequence[str]) -> tuple[BetterElsewhere, ...]:
    """Return the prompts whose reference answer is far likelier under another adapter, the clearest first."""
    found = []
    for place, row in enumerate(rows):
        best = min(range(1, len(row.losses)), key=row.losses.__getitem__)
        by = row.losses[1 + names.index(row.adapter)] - row.losses[best]
        if by * row.tokens >= ODDS:
            found.append(BetterElsewhere(place, names[best - 1], by))
    return tuple(sorted(found, key=lambda one: -one.by * rows[one.row].tokens))


def _ahead(cells: Sequence[Cell], dataset: str) -> Cell | None:
    """Return the adapter that is the furthest ahead of a data set's own, if one is surely ahead."""
    others = [one for one in cells if one.dataset == dataset and one.adapter not in (BASE, dataset)]
    best = min(others, key=lambda one: one.behind.value, default=None)
    return best if best is not None and best.behind.high < -LEAST else None


def _alike(
    names: Sequence[str], means: Mapping[str, Mapping[str, Means]], gains: Mapping[str, Estimate]
) -> list[Pair]:
    found = []
    for one, other in combinations(names, 2):
        apart = {
            owner: (means[owner][guest] - means[owner][owner]).estimate
            for owner, guest in ((one, other), (other, one))
            if owner in means
        }
        shown = all(each.within(max(LEAST, ALIKE * gains[owner].value)) for owner, each in apart.items())
        if apart and (shown or all(each.low <= 0 <= each.high for each in apart.values())):
            found.append(Pair(one, other, tuple(apart.values()), shown))
    return found
