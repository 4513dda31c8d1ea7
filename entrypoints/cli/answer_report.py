"""Answers and decisions as lines of text."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from application.answering.answer_file import AnswerFileReport
from application.answering.answers import Answer
from domain.answers import explain
from domain.routing import RoutingDecision


def print_json(value: dict[str, Any]) -> None:
    """Print one JSON object."""
    import orjson

    click.echo(orjson.dumps(value))


def selected_line(decision: RoutingDecision) -> str:
    """Return the router's line for a decision that nobody answers yet."""
    if decision.adapter is None:
        return f"[router] selected adapter=none ({explain(decision)})"
    return f"[router] selected adapter={decision.adapter} (confidence {decision.confidence:.2f})"


def response_lines(answer: Answer) -> tuple[str, str]:
    """Return the router's and the model's line: whom the router chose, who really answered and why, what was said."""
    return _router_line(answer), f"[model] response: {answer.text}"


def _router_line(answer: Answer) -> str:
    decision = answer.decision
    if answer.fallback is None and decision is not None:
        return selected_line(decision)
    speaker = "base model answers" if answer.adapter is None else f"fallback {answer.adapter} answers"
    if decision is None or decision.adapter is None:
        return f"[router] selected adapter=none ({speaker}: {answer.fallback})"
    chosen = f"{decision.adapter} (confidence {decision.confidence:.2f}"
    return f"[router] selected adapter={chosen}; {speaker}: {answer.fallback})"


def print_report(report: AnswerFileReport, output: Path, *, as_json: bool) -> None:
    """Print what a run over a file of prompts did."""
    if as_json:
        print_json(
            {
                "output": str(output),
                "total": report.total,
                "skipped": report.skipped,
                "answered": report.by_adapter,
                "fallbacks": report.fallbacks,
                "tokens": report.tokens,
            }
        )
        return
    done = sum(report.by_adapter.values())
    shown = ", ".join(f"{name} {count}" for name, count in sorted(report.by_adapter.items()))
    click.echo(f"Answered {done} of {report.total} prompts{f' ({shown})' if shown else ''} into {output}")
    if report.skipped:
        click.echo(f"  {report.skipped} were answered by an earlier run")
    if report.fallbacks:
        click.echo(f"  {report.fallbacks} are not the router's confident choice; their lines say why")
