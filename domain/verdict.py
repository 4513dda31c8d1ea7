"""A comparison in one sentence that a person can act on: the worst that was found, else what routing gains."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from domain.bootstrap import Estimate
from domain.comparison import LEAST, AdapterComparison
from domain.routing_gain import RoutingGain

MOST: Final = 0.5
"""The part of the regret from which refused prompts are worth a word."""


def verdict(found: AdapterComparison, gain: RoutingGain | None) -> str:
    """Return the sentence."""
    if found.swapped:
        pairs = _listed(f"{one} and {other}" for one, other in found.swapped)
        return f"{pairs} seem to be swapped: each answers the other's prompts better; rename their folders."
    outdone = [one for one in found.outdone if one.dataset not in found.no_better]
    if outdone:
        who = _listed(f"{one.dataset}'s prompts are answered better by {one.adapter}" for one in outdone)
        return f"{who}: check which weights lie in which folder, and whose data was given for whom."
    if found.no_better:
        names = _listed(found.no_better)
        few = min(found.counts[name] for name in found.no_better)
        them = "it again" if len(found.no_better) == 1 else "them again"
        return (
            f"{names} {'is' if len(found.no_better) == 1 else 'are'} not shown to be better than the base model on "
            f"{'its' if len(found.no_better) == 1 else 'their'} own {few} prompts: train {them} or leave "
            f"{'it' if len(found.no_better) == 1 else 'them'} out."
        )
    merge = _listed(f"{pair.one} and {pair.other}" for pair in found.alike if pair.shown)
    if merge:
        return f"{merge} are interchangeable: keep one of them, which leaves the router less to tell apart."
    if gain is None:
        return "Every adapter is the best at its own prompts: a router between them has something to gain."
    if not gain.over_single.positive:
        return (
            f"Routing is not shown to pay: {gain.single} alone answers as well "
            f"({_signed(gain.over_single)} nats per token)"
            f"{_refusals(gain) or '; improve the router, or do without it'}."
        )
    return (
        f"Routing pays: its answers are {_signed(gain.over_single)} nats per token ahead of {gain.single}, the best "
        f"single adapter, which is {gain.captured.value:.0%} of what perfect choices could gain{_refusals(gain)}."
    )


def _refusals(gain: RoutingGain) -> str:
    """Return what refusing costs, where it is shown to cost and is most of what the router misses."""
    lost, share = gain.abstention, (gain.abstention.cost - gain.abstention.saved) / max(gain.regret.value, LEAST)
    if not gain.regret.positive or share <= MOST:
        return ""
    return f"; {min(1, share):.0%} of what it misses is lost on {lost.count} refused prompts: consider looser limits"


def _signed(one: Estimate) -> str:
    return f"{one.value:.2f} [{one.low:.2f}, {one.high:.2f}]"


def _listed(names: Iterable[str]) -> str:
    *first, last = [*names] or [""]
    return f"{', '.join(first)} and {last}" if first else last
