"""Answers and decisions as lines of text."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import orjson

from adapters.answers.answer_json import answer_object, decision_object, error_object
from application.answering.answer_file import AnswerFileReport
from domain.answer_policy import explain
from domain.answers import Answer
from domain.errors import MoeRouterError
from domain.routing import RoutingDecision


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


def decision_line(text: str, decision: RoutingDecision, **more: Any) -> str:
    """Return a decision about a prompt as one line of JSON, after `more` fields."""
    return _line({**more, "prompt": text, **decision_object(decision)})


def decision_text(text: str | None, decision: RoutingDecision) -> str:
    """Return a decision as lines: the prompt, unless it is None, and the adapter."""
    return _under_prompt(text, selected_line(decision))


def answer_line(text: str, answer: Answer, **more: Any) -> str:
    """Return an answer to a prompt as one line of JSON, after `more` fields."""
    return _line({**more, "prompt": text, **answer_object(answer)})


def answer_text(text: str | None, answer: Answer) -> str:
    """Return an answer as lines: the prompt, unless it is None, who answered, and what was said."""
    return _under_prompt(text, *response_lines(answer))


def error_line(row_id: str, line: int, error: MoeRouterError) -> str:
    """Return why a row has no answer as one line of JSON."""
    return _line(error_object(row_id, line, error))


def error_text(row_id: str, line: int, error: MoeRouterError) -> str:
    """Return why a row has no answer as lines."""
    return _under_prompt(f"line {line}, id {row_id!r}", f"[error] {error.what}")


def _under_prompt(text: str | None, *said: str) -> str:
    return "\n".join([f"[prompt] {text}", *said] if text is not None else said)


def _line(values: dict[str, Any]) -> str:
    return orjson.dumps(values).decode()


def file_as_values(report: AnswerFileReport, output: Path) -> dict[str, Any]:
    """Return what a run over a file of prompts did as plain values."""
    return {
        "output": str(output),
        "total": report.total,
        "skipped": report.skipped,
        "answered": report.by_adapter,
        "fallbacks": report.fallbacks,
        "tokens": report.tokens,
        "n_failed": report.n_failed,
        "failed": [error_object(row.id, row.line, row.error) for row in report.failed],
    }


def file_as_text(report: AnswerFileReport, output: Path) -> str:
    """Return what a run over a file of prompts did."""
    done = sum(report.by_adapter.values())
    shown = ", ".join(f"{name} {count}" for name, count in sorted(report.by_adapter.items()))
    lines = [f"Answered {done} of {report.total} prompts{f' ({shown})' if shown else ''} into {output}"]
    if report.skipped:
        lines.append(f"  {report.skipped} were answered by an earlier run")
    if report.fallbacks:
        lines.append(f"  {report.fallbacks} are not the router's confident choice; their lines say why")
    return "\n".join(lines)


def failure_lines(report: AnswerFileReport, source: Path) -> list[str]:
    """Return one line for each row that no answer could be given to, as far as the report names them."""
    lines = [f"{source}:{row.line}: id {row.id!r}: {row.error.what}" for row in report.failed]
    more = report.n_failed - len(report.failed)
    return [*lines, f"{source}: {more} more rows have no answer; they are among the answers"] if more else lines
