"""Intervals by resampling: how far a mean over prompts could lie from what it would be on other prompts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from random import Random
from typing import Final

from attrs import frozen

RESAMPLES: Final = 1000
LEVEL: Final = 0.95


@frozen
class Estimate:
    """A figure with its interval.

    Attributes:
        value: the figure on the prompts at hand.
        low: lower end of the 95 % interval.
        high: its upper end.
    """

    value: float
    low: float
    high: float

    @property
    def positive(self) -> bool:
        """Whether the whole interval lies above 0."""
        return self.low > 0

    def within(self, margin: float) -> bool:
        """Whether the whole interval lies within `margin` of 0."""
        return -margin <= self.low and self.high <= margin


@frozen
class Means:
    """The mean of one series, and its means over resampled prompts; those of paired series can be subtracted.

    Attributes:
        value: the mean.
        resampled: its mean in each resample.
    """

    value: float
    resampled: tuple[float, ...]

    def __sub__(self, other: Means) -> Means:
        return Means(self.value - other.value, tuple(map(float.__sub__, self.resampled, other.resampled)))

    def over(self, whole: Means) -> Means:
        """Return this as a share of `whole`; where that is not above 0 the share is 0."""
        pairs = zip(self.resampled, whole.resampled, strict=True)
        return Means(_share(self.value, whole.value), tuple(_share(part, all_of_it) for part, all_of_it in pairs))

    @property
    def estimate(self) -> Estimate:
        """The percentile interval (Efron 1981)."""
        ranked = sorted(self.resampled)
        tail = (1 - LEVEL) / 2
        return Estimate(self.value, _quantile(ranked, tail), _quantile(ranked, 1 - tail))


def _share(part: float, whole: float) -> float:
    return part / whole if whole > 0 else 0.0


def _quantile(ranked: Sequence[float], share: float) -> float:
    place = share * (len(ranked) - 1)
    below = int(place)
    above = min(below + 1, len(ranked) - 1)
    return ranked[below] + (place - below) * (ranked[above] - ranked[below])


def resampled_means(
    groups: Mapping[str, Sequence[Sequence[float]]], *, seed: int = 42, resamples: int = RESAMPLES
) -> dict[str, list[Means]]:
    """Return the means of every series of each group; the prompts of a group are resampled together.

    Args:
        groups: by name, series of one value per prompt; those of one group have equal lengths, above 0.
        seed: decides the resamples; each group has its own, whatever groups there are besides.
        resamples: how many.
    """
    found = {}
    for name, series in groups.items():
        rng, size = Random(f"{seed}/{name}"), len(series[0])
        sums: list[list[float]] = [[] for _ in series]
        for _ in range(resamples):
            drawn = rng.choices(range(size), k=size)
            for each, values in zip(sums, series, strict=True):
                each.append(sum(map(values.__getitem__, drawn)) / size)
        found[name] = [Means(sum(values) / size, tuple(each)) for values, each in zip(series, sums, strict=True)]
    return found


def average(means: Sequence[Means]) -> Means:
    """Return the mean over groups, each counting the same."""
    columns = zip(*(each.resampled for each in means), strict=True)
    return Means(
        sum(each.value for each in means) / len(means), tuple(sum(column) / len(means) for column in columns)
    )
