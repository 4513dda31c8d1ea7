"""From scores to a decision: an adapter, or none of them, and why."""

from __future__ import annotations

import math
from collections.abc import Iterable
from collections.abc import Set as AbstractSet
from enum import StrEnum
from typing import Final

from attrs import evolve, frozen

from domain.errors import UsageError
from domain.labels import LabelMap


class Reason(StrEnum):
    """Why a decision came out as it did."""

    CONFIDENT = "confident"
    LOW_CONFIDENCE = "low-confidence"
    OUT_OF_SCOPE = "out-of-scope"
    ALL_DISABLED = "all-disabled"


@frozen
class NearestPrompt:
    """A prompt that the router remembers, from training or validation, and that is close to the one being routed.

    Attributes:
        text: the remembered prompt.
        adapter: the adapter it belongs to.
        similarity: cosine similarity of the features, -1 to 1.
    """

    text: str
    adapter: str
    similarity: float


def distinct(ranked: Iterable[NearestPrompt], count: int) -> tuple[NearestPrompt, ...]:
    """Return the first `count` prompts of a ranking; of those that an adapter has several times only the first."""
    found: dict[tuple[str, str], NearestPrompt] = {}
    for each in ranked:
        if len(found) == count:
            break
        found.setdefault((each.text, each.adapter), each)
    return tuple(found.values())


@frozen
class RouteScores:
    """What a trained router says of one prompt, before any decision.

    Attributes:
        probabilities: calibrated probability per label, in label order; sums to 1.
        out_of_scope: out-of-scope score; the higher, the less the prompt resembles the remembered prompts.
        nearest: the nearest remembered prompts, nearest first.
        deciding: position of the piece with the strongest evidence among the prompt's pieces.
    """

    probabilities: tuple[float, ...]
    out_of_scope: float
    nearest: tuple[NearestPrompt, ...] = ()
    deciding: int = 0


@frozen
class AbstentionThresholds:
    """When the router answers "none of these".

    Attributes:
        min_confidence: abstain when the highest probability is below this.
        max_out_of_scope: abstain when the out-of-scope score is above this.
    """

    min_confidence: float = 0.0
    max_out_of_scope: float = float("inf")


@frozen
class OtherLimits:
    """Limits that replace the router's own for some prompts; None keeps the router's.

    Attributes:
        min_confidence: least confidence of an answer, 0 to 1.
        max_out_of_scope: highest out-of-scope score of an answer.
        no_abstain: no limit at all: an adapter is chosen for every prompt.
    """

    min_confidence: float | None = None
    max_out_of_scope: float | None = None
    no_abstain: bool = False

    def __attrs_post_init__(self) -> None:
        """Raise UsageError for a limit that cannot be, and for limits where none are wanted."""
        if self.min_confidence is not None and not 0.0 <= self.min_confidence <= 1.0:
            raise UsageError(f"min-confidence {self.min_confidence} is not between 0 and 1")
        if self.max_out_of_scope is not None and math.isnan(self.max_out_of_scope):
            raise UsageError(f"max-out-of-scope {self.max_out_of_scope} is not a number")
        if self.no_abstain and (self.min_confidence is not None or self.max_out_of_scope is not None):
            raise UsageError(
                "no-abstain takes both limits away: it excludes min-confidence and max-out-of-scope",
                hint="leave one of them out",
            )

    def over(self, own: AbstentionThresholds) -> AbstentionThresholds:
        """Return the limits that apply where the router's own are `own`."""
        if self.no_abstain:
            return AbstentionThresholds()
        limits = own
        if self.min_confidence is not None:
            limits = evolve(limits, min_confidence=self.min_confidence)
        if self.max_out_of_scope is not None:
            limits = evolve(limits, max_out_of_scope=self.max_out_of_scope)
        return limits


ROUTERS_OWN: Final = OtherLimits()
"""The router's own limits."""


@frozen
class RoutingDecision:
    """The adapter that should answer a prompt, or None for the bare base model, with everything behind it.

    Attributes:
        adapter: the chosen adapter's name, or None when the router abstains.
        reason: why.
        best: the enabled adapter with the highest probability, chosen or not; None when all are disabled.
        confidence: calibrated probability of `best`, 0 to 1.
        runner_up: the enabled adapter with the second highest probability, if there is one.
        margin: confidence minus the runner-up's probability.
        out_of_scope: out-of-scope score of the prompt.
        thresholds: the limits that applied.
        nearest: the nearest remembered prompts, nearest first.
        probabilities: every enabled adapter with its calibrated probability, in label order; they sum to 1.
        piece: the piece of the prompt with the strongest evidence, as the base model read it.
        shortened: whether text from the middle of the prompt, or the end of a long piece, was not read.
        pieces: how many pieces of the prompt were read.
    """

    adapter: str | None
    reason: Reason
    best: str | None
    confidence: float
    runner_up: str | None
    margin: float
    out_of_scope: float
    thresholds: AbstentionThresholds
    nearest: tuple[NearestPrompt, ...] = ()
    probabilities: tuple[tuple[str, float], ...] = ()
    piece: str = ""
    shortened: bool = False
    pieces: int = 1


def decide(
    scores: RouteScores,
    labels: LabelMap,
    thresholds: AbstentionThresholds,
    disabled: AbstractSet[str] = frozenset(),
) -> RoutingDecision:
    """Return the decision for one prompt.

    Disabled adapters are masked and the others' probabilities renormalised before anything is compared. Ties
    go to the lower label; a score that is not a number abstains. Raises UsageError when `disabled` names an
    unknown adapter.
    """
    masked = {labels.label_of(name) for name in disabled}
    enabled = [label for label in range(len(labels)) if label not in masked]
    total = sum(scores.probabilities[label] for label in enabled)
    share = {label: scores.probabilities[label] / total if total != 0 else 0.0 for label in enabled}
    ranked = sorted(enabled, key=lambda label: (-share[label], label))
    best = ranked[0] if ranked else None
    confidence = share[best] if best is not None else 0.0
    second = ranked[1] if len(ranked) > 1 else None
    reason = _reason(best, confidence, scores.out_of_scope, thresholds)
    return RoutingDecision(
        adapter=labels.name_of(best) if best is not None and reason is Reason.CONFIDENT else None,
        reason=reason,
        best=None if best is None else labels.name_of(best),
        confidence=confidence,
        runner_up=None if second is None else labels.name_of(second),
        margin=confidence - (share[second] if second is not None else 0.0),
        out_of_scope=scores.out_of_scope,
        thresholds=thresholds,
        nearest=scores.nearest,
        probabilities=tuple((labels.name_of(label), share[label]) for label in enabled),
    )


def _reason(best: int | None, confidence: float, out_of_scope: float, limits: AbstentionThresholds) -> Reason:
    if best is None:
        return Reason.ALL_DISABLED
    if not out_of_scope <= limits.max_out_of_scope:  # written so that NaN abstains
        return Reason.OUT_OF_SCOPE
    if not confidence >= limits.min_confidence:
        return Reason.LOW_CONFIDENCE
    return Reason.CONFIDENT
