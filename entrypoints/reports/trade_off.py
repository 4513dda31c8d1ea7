"""What a router's limits do, as ``describe`` and ``train`` tell it."""

from __future__ import annotations

import io
import math

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from domain.abstention import LEFT_OUT_ALLOWANCE, OUT_OF_SCOPE_ALLOWANCE, OUT_OF_SCOPE_ANSWERED
from domain.fragility import LEAST_ANSWERED
from domain.router import RouterCard
from domain.trade_off import TradeOff

_COLUMNS = (
    "target error",
    "min confidence",
    "max out-of-scope",
    "answered",
    "wrong",
    "changed answered",
    "changed wrong",
    "out-of-scope refused",
)


def trade_off_table(card: RouterCard) -> str:
    """Return the trade-off as a table for people; empty when the router's file has none."""
    if not card.trade_off:
        return ""
    table = Table(box=SIMPLE_HEAD)
    for name in (*_COLUMNS, ""):
        table.add_column(name, justify="right" if name else "left")
    for one in card.trade_off:
        rates = (one.coverage, one.error, one.changed_coverage, one.changed_error, one.refused)
        own = "← these limits apply" if one == card.expected else ""
        table.add_row(
            f"{one.target_error:.1%}",
            f"{one.min_confidence:.3f}",
            f"{one.max_out_of_scope:.3f}",
            *(f"{rate:.1%}" for rate in rates),
            own,
        )
    console = Console(file=io.StringIO(), width=160)
    console.print("Limits by target error, on prompts left out of training (changed: with typing errors or company)")
    console.print(table)
    if any(one.error > one.target_error for one in card.trade_off):
        console.print(
            f"These prompts may err {LEFT_OUT_ALLOWANCE:g} times as often as the target says: the routers asked knew "
            "four fifths of the data."
        )
    if len({_pair(one) for one in card.trade_off}) < len(card.trade_off):
        console.print(
            "Where two lines have the same limits, the looser target changes nothing: all is answered already, "
            "the left-out prompts\ncannot show more, or more out-of-scope prompts would pass than may "
            f"({OUT_OF_SCOPE_ANSWERED:.0%}, or {OUT_OF_SCOPE_ALLOWANCE:g} times the target error if that is more)."
        )
    assert isinstance(console.file, io.StringIO)
    return "\n".join(line.rstrip() for line in console.file.getvalue().rstrip().split("\n"))


def _pair(one: TradeOff) -> tuple[float, float]:
    return one.min_confidence, one.max_out_of_scope


def expectation(card: RouterCard) -> str:
    """Return a line on what the router will answer and refuse, and why; one more where it refuses much."""
    limits = _limits(card)
    expected = card.expected
    if expected is None:
        return f"Refuses prompts outside its limits: {limits}"
    given = " and given" if card.n_out_of_scope else ""
    return (
        f"Answers about {expected.coverage:.0%} of prompts like its data, {expected.changed_coverage:.0%} of changed "
        f"ones; refuses {expected.refused:.0%} of the packaged{given} out-of-scope prompts "
        f"(others: evaluate --out-of-scope FILE); limits: {limits}{_most_refusals(expected)}"
        f"{_remedy(card, expected)}"
    )


def _remedy(card: RouterCard, expected: TradeOff) -> str:
    """Return what to do about a router that refuses much: the first looser limit that is enough, or the last."""
    looser = [one for one in card.trade_off if one.coverage > expected.coverage]
    if expected.coverage >= LEAST_ANSWERED or not looser:
        return ""
    shown = next((one for one in looser if one.coverage >= LEAST_ANSWERED), looser[-1])
    return (
        "\n⚠️  That is little. More training rows of each adapter help most. Without training again, route, infer and "
        f"serve take other limits: with --min-confidence {math.floor(shown.min_confidence * 100) / 100:.2f} about "
        f"{shown.coverage:.0%} are answered, {shown.error:.1%} of them wrong (describe shows more of them)"
    )


def _limits(card: RouterCard) -> str:
    own = card.thresholds
    scope = f"out-of-scope score ≤ {own.max_out_of_scope:.3f}" if math.isfinite(own.max_out_of_scope) else ""
    confidence = f"confidence ≥ {own.min_confidence:.3f}" if own.min_confidence > 0 else ""
    return ", ".join(limit for limit in (confidence, scope) if limit) or "none"


def _most_refusals(expected: TradeOff) -> str:
    """Return which limit refuses more of the prompts that belong to an adapter."""
    if expected.coverage == expected.changed_coverage == 1.0:
        return ""
    return f"; most refusals: {'a high out-of-scope score' if expected.strange > 0.5 else 'low confidence'}"
