"""Which adapter a conversation keeps, and when it changes hands.

Two opposite faults are avoided: routing every turn by itself sends "commit it" elsewhere, and keeping the first
choice for ever pins a conversation to its opener. A switch also throws away what the server has computed of the
conversation so far, as its cache holds for one adapter only.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Final

from attrs import frozen

from domain.routing import Reason, RoutingDecision

SWITCH_MARGIN: Final = 0.2
"""By how much another adapter's probability must exceed the present one's before a conversation changes hands."""


class Strategy(StrEnum):
    """How much a conversation's earlier turns count.

    Attributes:
        ADAPTIVE: the present adapter stays unless another one is clearly right.
        STICKY: the first adapter stays.
        NONE: every turn is routed by itself.
    """

    ADAPTIVE = "adaptive"
    STICKY = "sticky"
    NONE = "none"


class ServedReason(StrEnum):
    """Why an answer comes from whom it comes from; wider than :class:`domain.routing.Reason`.

    Attributes:
        CONFIDENT: the router chose the adapter for this turn.
        NAMED: the client asked for this model by name.
        STICKY: the conversation keeps its adapter.
        OUT_OF_SCOPE: the turn is unlike everything that the adapters were trained on.
        LOW_CONFIDENCE: no adapter is likely enough.
        ROUTER_ERROR: the router failed.
        DISABLED: the adapter that should answer is not on offer, or all are ruled out.
    """

    CONFIDENT = "confident"
    NAMED = "named"
    STICKY = "sticky"
    OUT_OF_SCOPE = "out_of_scope"
    LOW_CONFIDENCE = "low_confidence"
    ROUTER_ERROR = "router_error"
    DISABLED = "disabled"


class SessionDecision(StrEnum):
    """What a turn did to its conversation."""

    INITIALIZE = "initialize"
    RETAIN = "retain"
    SWITCH = "switch"


_REASONS: Final = {
    Reason.CONFIDENT: ServedReason.CONFIDENT,
    Reason.OUT_OF_SCOPE: ServedReason.OUT_OF_SCOPE,
    Reason.LOW_CONFIDENCE: ServedReason.LOW_CONFIDENCE,
    Reason.ALL_DISABLED: ServedReason.DISABLED,
}


@frozen
class Settled:
    """Who is to answer a turn, before fallbacks.

    Attributes:
        adapter: the adapter, or None when there is none for this turn.
        reason: why.
        session: what that means for the conversation.
    """

    adapter: str | None
    reason: ServedReason
    session: SessionDecision


def settle(
    decision: RoutingDecision, held: str | None, *, short: bool = False, margin: float = SWITCH_MARGIN
) -> Settled:
    """Return who answers a turn of a conversation that `held` has answered so far (None: nobody yet).

    The present adapter stays when the turn is out of scope, uncertain or too short to stand alone, and when the
    other adapter's probability exceeds its own by no more than `margin`.
    """
    if held is None:
        return Settled(decision.adapter, _REASONS[decision.reason], SessionDecision.INITIALIZE)
    if decision.adapter == held:
        return Settled(held, ServedReason.CONFIDENT, SessionDecision.RETAIN)
    if decision.adapter is None or short:
        return Settled(held, ServedReason.STICKY, SessionDecision.RETAIN)
    if not decision.confidence - dict(decision.probabilities).get(held, 0.0) > margin:
        return Settled(held, ServedReason.STICKY, SessionDecision.RETAIN)
    return Settled(decision.adapter, ServedReason.CONFIDENT, SessionDecision.SWITCH)
