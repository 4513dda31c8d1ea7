"""What a request may ask of routing: the object ``routing`` beside the usual fields."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from attrs import fields, frozen

from domain.answer_policy import Fallback
from domain.errors import UsageError
from domain.labels import LabelMap
from domain.routing import AbstentionThresholds, OtherLimits
from domain.stickiness import Strategy


@frozen
class RoutingWishes:
    """What one request asks of routing; None leaves it to the server.

    Attributes:
        session_id: the conversation's name.
        strategy: how much earlier turns count.
        allowed: the adapters that may answer.
        disabled: adapters that may not.
        min_confidence: least confidence, 0 to 1.
        max_out_of_scope: highest out-of-scope score.
        no_abstain: always choose an adapter.
        fallback: who answers when there is no choice: "base", "error" or an adapter.
    """

    session_id: str | None = None
    strategy: Strategy = Strategy.ADAPTIVE
    allowed: tuple[str, ...] | None = None
    disabled: tuple[str, ...] = ()
    min_confidence: float | None = None
    max_out_of_scope: float | None = None
    no_abstain: bool = False
    fallback: Fallback | None = None

    def masked(self, labels: LabelMap) -> frozenset[str]:
        """Return the router's adapters that must not be chosen; raises UsageError for a name it does not know."""
        for name in (*(self.allowed or ()), *self.disabled):
            labels.label_of(name)
        allowed = labels.names if self.allowed is None else self.allowed
        return frozenset(name for name in labels.names if name not in allowed or name in self.disabled)

    def limits(self, own: AbstentionThresholds) -> AbstentionThresholds:
        """Return the limits that apply, where the router's own are `own`."""
        if self.no_abstain:
            return AbstentionThresholds()
        return OtherLimits(self.min_confidence, self.max_out_of_scope).over(own)


NO_WISHES = RoutingWishes()
"""A request that leaves everything to the server."""


def parse_wishes(value: Any) -> RoutingWishes:
    """Return a request's wishes; raises UsageError that names the offending key."""
    if value is None:
        return RoutingWishes()
    if not isinstance(value, Mapping):
        raise UsageError("is not an object", where="routing")
    known = {each.name for each in fields(RoutingWishes)}
    unknown = sorted(set(value) - known)
    if unknown:
        raise UsageError(
            f"unknown key {unknown[0]!r}", where="routing", hint=f"known keys: {', '.join(sorted(known))}"
        )
    given = {key: _READERS[key](key, one) for key, one in value.items() if one is not None}
    return RoutingWishes(**given)


def _text(key: str, value: Any) -> str:
    if not isinstance(value, str) or not 0 < len(value) <= 512:
        raise UsageError("is not a text of 1 to 512 characters", where=f"routing.{key}")
    return value


def _names(key: str, value: Any) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(isinstance(name, str) for name in value):
        raise UsageError("is not a list of adapter names", where=f"routing.{key}")
    return tuple(value)


def _number(key: str, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or value != value:
        raise UsageError("is not a number", where=f"routing.{key}")
    if key == "min_confidence" and not 0.0 <= value <= 1.0:
        raise UsageError(f"{value} is not between 0 and 1", where=f"routing.{key}")
    return float(value)


def _flag(key: str, value: Any) -> bool:
    if not isinstance(value, bool):
        raise UsageError("is neither true nor false", where=f"routing.{key}")
    return value


def _strategy(key: str, value: Any) -> Strategy:
    try:
        return Strategy(value)
    except ValueError:
        raise UsageError(f"must be one of: {', '.join(Strategy)}", where=f"routing.{key}") from None


def _fallback(key: str, value: Any) -> Fallback:
    try:
        return Fallback.parse(_text(key, value))
    except UsageError as error:
        raise UsageError(error.what, where=f"routing.{key}", hint=error.hint) from None


_READERS: Mapping[str, Any] = {
    "session_id": _text,
    "strategy": _strategy,
    "allowed": _names,
    "disabled": _names,
    "min_confidence": _number,
    "max_out_of_scope": _number,
    "no_abstain": _flag,
    "fallback": _fallback,
}
