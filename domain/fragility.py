"""How a router fares under changed prompts, and what that means to the person who trained it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Final

from attrs import frozen

from domain.evaluation import GradedRow

MOST_FLIPS: Final = 0.10
"""A router is fragile when more of its decisions than this go to another adapter under some kind of change."""

MOST_WRONG: Final = 2.0
"""And when more than so many times the target error of its answers are wrong."""

LEAST_ANSWERED: Final = 0.5
"""A router refuses much when it answers fewer of its own kind of prompts than this."""

FEWEST: Final = 3
"""Fewer prompts than this prove nothing of a kind, whatever share they are."""

MORE_ROWS: Final = "more training rows in the words of real users"
CHECK_LABELS: Final = "a look at the labels (an evaluation lists the wrong rows when asked to)"
HIGHER_LIMIT: Final = "a higher limit (a lower target error in training, or a higher min-confidence in routing)"
LOOSER_LIMITS: Final = (
    ", and looser limits (in routing a lower min-confidence or a higher max-out-of-scope; in training a higher "
    "target error)"
)
NO_LOOSER_LIMITS: Final = "; looser limits would answer more, but err more often, too"


@frozen
class ChangedFigures:
    """What becomes of the decisions when all prompts are changed in one way.

    Attributes:
        total: prompts.
        accuracy: share of them whose best adapter is the right one, abstention aside.
        coverage: share of them that are answered.
        wrong: share of wrong answers among them.
        flips: share of prompts that are answered before and after, but by different adapters.
        changes: share of prompts whose decision changes, to or from "none" included.
    """

    total: int
    accuracy: float
    coverage: float
    wrong: float
    flips: float
    changes: float


def changed_figures(before: Sequence[GradedRow], after: Sequence[GradedRow]) -> ChangedFigures:
    """Return the figures of the same prompts as they are and changed, in one order; one prompt at least."""
    total = len(after)
    answered = [row for row in after if row.answered]
    pairs = list(zip(before, after, strict=True))
    flips = sum(one.answered and two.answered and one.predicted != two.predicted for one, two in pairs)
    to_or_from_none = sum(one.answered != two.answered for one, two in pairs)
    return ChangedFigures(
        total=total,
        accuracy=sum(row.right for row in after) / total,
        coverage=len(answered) / total,
        wrong=sum(not row.right for row in answered) / len(answered) if answered else 0.0,
        flips=flips / total,
        changes=(flips + to_or_from_none) / total,
    )


def mean_figures(kinds: Sequence[ChangedFigures]) -> ChangedFigures:
    """Return the figures over all kinds of change together, each prompt of each kind counting once."""
    total = sum(kind.total for kind in kinds)
    answered = sum(kind.coverage * kind.total for kind in kinds)
    wrong = sum(kind.wrong * kind.coverage * kind.total for kind in kinds)
    return ChangedFigures(
        total=total,
        accuracy=fmean(kind.accuracy for kind in kinds),
        coverage=answered / total,
        wrong=wrong / answered if answered else 0.0,
        flips=fmean(kind.flips for kind in kinds),
        changes=fmean(kind.changes for kind in kinds),
    )


def warnings(coverage: float, kinds: Mapping[str, ChangedFigures], target_error: float) -> tuple[str, ...]:
    """Return what a person must know of a router, each with its remedy.

    Args:
        coverage: share of unchanged prompts that it answers.
        kinds: figures by kind of change; may be empty.
        target_error: error rate that its limits were fitted to.
    """
    errs = (*_flips(kinds), *_wrong(kinds, target_error))
    return (*errs, *_refusals(coverage, kinds, errs=bool(errs)))


def _flips(kinds: Mapping[str, ChangedFigures]) -> list[str]:
    found = {
        name: kind.flips
        for name, kind in kinds.items()
        if kind.flips > MOST_FLIPS and round(kind.flips * kind.total) >= FEWEST
    }
    if not found:
        return []
    return [
        f"the router is fragile: decisions go to another adapter under {_worst(found)}. What helps: {MORE_ROWS}, "
        f"and {HIGHER_LIMIT}"
    ]


def _wrong(kinds: Mapping[str, ChangedFigures], target_error: float) -> list[str]:
    found = {
        name: kind.wrong
        for name, kind in kinds.items()
        if kind.wrong > MOST_WRONG * target_error and round(kind.wrong * kind.coverage * kind.total) >= FEWEST
    }
    if not found:
        return []
    return [
        f"more answers are wrong than twice the target error of {target_error:.1%} under {_worst(found)}. "
        f"What helps: {MORE_ROWS}, {CHECK_LABELS}, and {HIGHER_LIMIT}"
    ]


def _refusals(coverage: float, kinds: Mapping[str, ChangedFigures], *, errs: bool) -> list[str]:
    changed = mean_figures(list(kinds.values())).coverage if kinds else coverage
    if min(coverage, changed) >= LEAST_ANSWERED:
        return []
    limits = NO_LOOSER_LIMITS if errs else LOOSER_LIMITS
    of_changed = f" and {changed:.0%} of changed ones" if kinds else ""
    return [
        f"the router refuses much: it answers {coverage:.0%} of these prompts{of_changed}. What helps: {MORE_ROWS}, "
        f"{CHECK_LABELS}{limits}"
    ]


def _worst(found: Mapping[str, float]) -> str:
    """Return the three worst kinds with their shares."""
    ranked = sorted(found.items(), key=lambda item: -item[1])
    more = f" and {len(ranked) - 3} more kinds of change" if len(ranked) > 3 else ""
    return ", ".join(f"{name} ({share:.1%})" for name, share in ranked[:3]) + more
