"""Answers and routing decisions as plain values for JSON."""

from __future__ import annotations

import math
from typing import Any

from attrs import asdict

from domain.answers import Answer
from domain.errors import MoeRouterError
from domain.routing import RoutingDecision


def answer_object(answer: Answer) -> dict[str, Any]:
    """Return an answer as plain values: who answered, why, what was said, and the decision behind it."""
    return {
        "adapter": answer.adapter,
        "fallback": answer.fallback,
        "answer": answer.text,
        "tokens": answer.tokens,
        "finish": answer.finish,
        "weights": answer.weights,
        "decision": None if answer.decision is None else decision_object(answer.decision),
    }


def error_object(row_id: str, line: int, error: MoeRouterError) -> dict[str, Any]:
    """Return why a row of a file has no answer as plain values."""
    return {"id": row_id, "line": line, "error": error.what, "hint": error.hint}


def decision_object(decision: RoutingDecision) -> dict[str, Any]:
    """Return a decision as plain values; a threshold that never applies is null."""
    limits = {name: value if math.isfinite(value) else None for name, value in asdict(decision.thresholds).items()}
    return {
        **asdict(decision),
        "reason": str(decision.reason),
        "thresholds": limits,
        "probabilities": dict(decision.probabilities),
    }
