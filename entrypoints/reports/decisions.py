"""What ``moe-router route`` prints of one decision."""

from __future__ import annotations

import math
from typing import Any

import orjson

from adapters.answers.answer_json import decision_object
from domain.routing import Reason, RoutingDecision

VERSION_DIGITS = 12
"""How much of a router's sha256 stands for its version."""

_REASONS = {
    Reason.LOW_CONFIDENCE: "the confidence is too low",
    Reason.OUT_OF_SCOPE: "the prompt is unlike the training prompts",
    Reason.ALL_DISABLED: "every adapter is disabled",
}


def decision_values(
    row_id: str, prompt: str, decision: RoutingDecision, router: str, milliseconds: float
) -> dict[str, Any]:
    """Return one decision as JSON-ready values, with what routed it and how long that took."""
    return {
        "id": row_id,
        "prompt": prompt,
        **decision_object(decision),
        "router": router[:VERSION_DIGITS],
        "milliseconds": round(milliseconds, 3),
    }


def decision_as_json(row_id: str, prompt: str, decision: RoutingDecision, router: str, milliseconds: float) -> str:
    """Return one decision as one line of JSON."""
    return orjson.dumps(decision_values(row_id, prompt, decision, router, milliseconds)).decode()


def decision_as_text(prompt: str, decision: RoutingDecision, router: str, milliseconds: float) -> str:
    """Return one decision for people."""
    limits = decision.thresholds
    lines = [_one_line(prompt)]
    if decision.adapter is not None:
        lines.append(f"  → {decision.adapter}")
    else:
        lines.append(f"  → none: {_REASONS[decision.reason]}")
    if decision.best is not None:
        against = f", {decision.margin:.3f} before {decision.runner_up}" if decision.runner_up else ""
        lines.append(
            f"    confidence {decision.confidence:.3f} for {decision.best}{against} ({_limit(limits.min_confidence)})"
        )
    lines.append(f"    out-of-scope score {decision.out_of_scope:.3f} ({_limit(limits.max_out_of_scope)})")
    if decision.pieces > 1:
        lines.append(f"    decided by, of {decision.pieces} pieces: {_one_line(decision.piece)}")
    if decision.shortened:
        lines.append("    the prompt is long: only its beginning and end were read")
    lines += [f"    near ({near.similarity:.2f}) {near.adapter}: {_one_line(near.text)}" for near in decision.nearest]
    if (
        decision.adapter is not None
        and decision.nearest
        and decision.adapter not in {near.adapter for near in decision.nearest}
    ):
        lines.append(f"    ⚠️  none of these near prompts is of {decision.adapter}: look at this decision twice")
    lines.append(f"    router {router[:VERSION_DIGITS]}, {milliseconds:.1f} ms")
    return "\n".join(lines)


def _limit(value: float) -> str:
    return f"limit {value:.3f}" if math.isfinite(value) else "no limit"


def _one_line(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= 100 else f"{line[:99]}…"
