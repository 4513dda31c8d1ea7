"""What a router gains by its choices, measured by the reference answers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from attrs import frozen

from domain.bootstrap import Estimate, Means, average, resampled_means
from domain.comparison import BASE, LEAST, ScoredRow
from domain.evaluation import CalibrationBin, GradedRow, reliability_bins


@frozen
class Abstention:
    """What it costs and saves that the router answers some prompts with the base model.

    Attributes:
        count: prompts that it abstains on.
        cost: nats per token, over all prompts, that its first choice would have been better by where it was better.
        saved: the same where the base model was better.
    """

    count: int
    cost: float
    saved: float


@frozen
class RoutingGain:
    """A router measured against other ways of choosing; losses are nats per token, the lower the better.

    Every data set counts the same. A lift is how far the router is ahead; intervals are paired.

    Attributes:
        loss: the router's; where it abstains the base model answers.
        by_label: the loss when every prompt is answered by the adapter whose data it is from.
        oracle: the loss of the best choice for each prompt, the base model included.
        single: the best single adapter, chosen on these very prompts.
        single_loss: its loss.
        regret: how far the router is behind the oracle.
        over_base: lift over the base model for all.
        over_single: lift over the best single adapter for all.
        over_uniform: lift over choosing any adapter with equal chance.
        over_random: lift over choosing at random as often as the router chooses each.
        captured: the part of the way from the best single adapter (or the base model, if that is better) to the
            oracle that the router goes; at most 1, below 0 when it is worse than no routing.
        abstention: what abstaining costs and saves.
        best_choices: share of prompts whose most confident choice is the best adapter, or as good.
        calibration_error: expected calibration error of the confidence against being the best adapter.
        reliability: the bins behind it.
    """

    loss: Estimate
    by_label: Estimate
    oracle: Estimate
    single: str
    single_loss: Estimate
    regret: Estimate
    over_base: Estimate
    over_single: Estimate
    over_uniform: Estimate
    over_random: Estimate
    captured: Estimate
    abstention: Abstention
    best_choices: float
    calibration_error: float
    reliability: tuple[CalibrationBin, ...]


def routing_gain(rows: Sequence[ScoredRow], names: Sequence[str], *, seed: int = 42) -> RoutingGain:
    """Return what the router of these rows gains; its arguments are those of ``compare_adapters``."""
    speakers = (BASE, *names)
    chosen = Counter(row.chosen for row in rows)
    mix = [chosen[None] / len(rows), *(chosen[name] / len(rows) for name in names)]

    def values(row: ScoredRow) -> list[float]:
        router = row.losses[0 if row.chosen is None else 1 + names.index(row.chosen)]
        label = row.losses[1 + names.index(row.adapter)]
        uniform = sum(row.losses[1:]) / len(names)
        random = sum(share * loss for share, loss in zip(mix, row.losses, strict=True))
        return [*row.losses, router, label, min(row.losses), uniform, random]

    groups = {name: [values(row) for row in rows if row.adapter == name] for name in names}
    columns = {name: list(zip(*part, strict=True)) for name, part in groups.items() if part}
    means = [average(list(series)) for series in zip(*resampled_means(columns, seed=seed).values(), strict=True)]
    *each, router, label, oracle, uniform, random = means
    single = min(range(1, len(speakers)), key=lambda place: each[place].value)
    without = min((each[0], each[single]), key=lambda one: one.value)
    graded = [_graded(row, names) for row in rows if row.best is not None]
    bins = reliability_bins(graded)
    return RoutingGain(
        loss=router.estimate,
        by_label=label.estimate,
        oracle=oracle.estimate,
        single=speakers[single],
        single_loss=each[single].estimate,
        regret=(router - oracle).estimate,
        over_base=(each[0] - router).estimate,
        over_single=(each[single] - router).estimate,
        over_uniform=(uniform - router).estimate,
        over_random=(random - router).estimate,
        captured=_captured(without, router, oracle),
        abstention=_abstention(rows, names),
        best_choices=sum(row.right for row in graded) / len(graded) if graded else 0.0,
        calibration_error=sum(one.count * abs(one.confidence - one.accuracy) for one in bins) / max(1, len(graded)),
        reliability=bins,
    )


def _captured(without: Means, router: Means, oracle: Means) -> Estimate:
    return (without - router).over(without - oracle).estimate


def _abstention(rows: Sequence[ScoredRow], names: Sequence[str]) -> Abstention:
    # The first choice's loss minus the base model's, on the rows that the base model answers.
    abstained = [row for row in rows if row.chosen is None and row.best is not None]
    worse = [row.losses[1 + names.index(str(row.best))] - row.losses[0] for row in abstained]
    return Abstention(
        len(abstained),
        sum(-each for each in worse if each < 0) / len(rows),
        sum(each for each in worse if each > 0) / len(rows),
    )


def _graded(row: ScoredRow, names: Sequence[str]) -> GradedRow:
    """Return the row as right when its first choice is the best adapter, or as good within what counts as none."""
    choice = 1 + names.index(str(row.best))
    best = min(range(1, len(row.losses)), key=row.losses.__getitem__)
    as_good = row.losses[choice] <= row.losses[best] + LEAST
    return GradedRow(gold=choice if as_good else best, predicted=choice, confidence=row.confidence)
