"""What a comparison of LoRA adapters takes and gives."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from pathlib import Path

from attrs import field, frozen

from domain.answers import GenerationOptions
from domain.comparison import AdapterComparison, ScoredRow, compare_adapters
from domain.errors import UsageError
from domain.matching import MatchRates, match_rates
from domain.routing_gain import RoutingGain, routing_gain
from domain.verdict import verdict


@frozen
class CompareRequest:
    """What to compare by.

    Attributes:
        dataset_dir: a routing data set that keeps reference answers.
        samples: most held-out prompts per adapter, 1 or more.
        own_system: ask with the source rows' own system turns. Off, prompts come as users send them, and each
            adapter's own system turn leads them, as when it answers.
        generation: also let everybody answer, and compare the answers; None for the likelihoods alone.
        seed: decides the resamples.
    """

    dataset_dir: Path
    samples: int = 50
    own_system: bool = False
    generation: GenerationOptions | None = None
    seed: int = 42

    def __attrs_post_init__(self) -> None:
        """Raise UsageError with the offending value."""
        if self.samples < 1:
            raise UsageError(f"samples {self.samples} is below 1")


@frozen
class UnscoredRow:
    """A prompt that could not be scored.

    Attributes:
        adapter: whose data it is from.
        source_id: its source row.
        problem: why.
    """

    adapter: str
    source_id: str
    problem: str


@frozen(slots=False)
class CompareReport:
    """What was measured; the figures follow from it.

    Attributes:
        dataset_dir: the data set.
        names: the LoRA adapters.
        rows: the scored prompts.
        lacking: held-out rows without a reference answer, by adapter; adapters without such rows are left out.
        unscored: prompts that could not be scored.
        router_sha256: hash of the router whose choices are measured; None without one.
        seed: decides the resamples.
        routed: whether a router's choices are among the rows.
    """

    dataset_dir: Path
    names: tuple[str, ...]
    rows: tuple[ScoredRow, ...]
    lacking: Mapping[str, int] = field(factory=dict)
    unscored: tuple[UnscoredRow, ...] = ()
    router_sha256: str | None = None
    seed: int = 42
    routed: bool = False

    @cached_property
    def adapters(self) -> AdapterComparison:
        """Who is good at whose prompts."""
        return compare_adapters(self.rows, self.names, seed=self.seed)

    @cached_property
    def gain(self) -> RoutingGain | None:
        """What the router gains; None without one."""
        return routing_gain(self.rows, self.names, seed=self.seed) if self.routed else None

    @cached_property
    def matches(self) -> MatchRates | None:
        """How often generated answers are the reference answers; None where nobody was to answer."""
        return match_rates(self.rows, self.names, seed=self.seed) if self.rows[0].matches else None

    @property
    def verdict(self) -> str:
        """All of it in one sentence that a person can act on."""
        return verdict(self.adapters, self.gain)
