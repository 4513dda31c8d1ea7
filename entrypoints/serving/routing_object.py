"""How a choice is told to clients: the object ``routing`` and the headers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import attrs

from application.serving.choose_answerer import Choice
from entrypoints.serving.serving import finite

SCHEMA: Final = "1"
NEAREST: Final = 3
"""How many remembered prompts are shown with a decision that is to be explained."""

NONE: Final = "none"


def routing_object(choice: Choice, *, debug: bool = False) -> dict[str, Any]:
    """Return the object ``routing`` of an answer; with `debug` all that is behind the decision."""
    decision = choice.decision
    session = None if choice.session is None else {"decision": str(choice.session), "source": choice.source}
    behind = {
        "min_confidence": choice.limits.min_confidence,
        "probabilities": None if decision is None else dict(decision.probabilities),
        "piece": None if decision is None else decision.piece,
        "pieces": None if decision is None else decision.pieces,
        "shortened": None if decision is None else decision.shortened,
        "nearest": [] if decision is None else [attrs.asdict(near) for near in decision.nearest],
    }
    return {
        "adapter": choice.adapter,
        "reason": str(choice.reason),
        "confidence": None if decision is None else round(decision.confidence, 6),
        "out_of_scope_score": None if decision is None else round(decision.out_of_scope, 6),
        "out_of_scope_limit": finite(choice.limits.max_out_of_scope),
        "fallback": choice.fallback,
        "best": None if decision is None else decision.best,
        "runner_up": None if decision is None else decision.runner_up,
        "session": session,
        "router": choice.router[:12],
        "latency_ms": round(choice.milliseconds, 3),
        **({} if choice.weights is None else {"weights": choice.weights}),
        **(behind if debug else {}),
    }


def wants_debug(headers: Mapping[str, str]) -> bool:
    """Tell whether a request asks for all that is behind the decision."""
    return headers.get("x-moe-router-debug", "").lower() == "true"


def routing_headers(choice: Choice, *, debug: bool = False) -> dict[str, str]:
    """Return the headers of an answer, all strings of a few safe characters; with `debug` more of them."""
    routing = routing_object(choice)
    wanted = {"schema": SCHEMA, **{name: routing[name] for name in ("adapter", "reason", "confidence", "router")}}
    if debug:
        for name in ("out_of_scope_score", "out_of_scope_limit", "fallback", "runner_up", "latency_ms"):
            wanted[name] = routing[name]
        wanted["min_confidence"] = choice.limits.min_confidence
        wanted["session"], wanted["session_source"] = choice.session, choice.source
    return {f"x-moe-router-{name.replace('_', '-')}": _shown(value) for name, value in wanted.items()}


def _shown(value: Any) -> str:
    return NONE if value is None else str(value)
