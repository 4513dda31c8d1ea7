"""Answers and decisions as lines of text."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from adapters.lora.answer_json import answer_object, decision_object
from application.answering.answer_file import AnswerFileReport
from application.answering.answers import Answer
from domain.answers import explain
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


def decisions_as_values(router: Path, texts: Sequence[str], decisions: Sequence[RoutingDecision]) -> dict[str, Any]:
    """Return decisions about prompts as plain values."""
    rows = [{"prompt": text, **decision_object(each)} for text, each in zip(texts, decisions, strict=True)]
    return {"router": str(router), "decisions": rows}


def decisions_as_text(texts: Sequence[str], decisions: Sequence[RoutingDecision]) -> str:
    """Return decisions as lines: each prompt, unless there is one only, and the adapter."""
    return _under_prompts(texts, [(selected_line(each),) for each in decisions])


def answers_as_values(router: Path, texts: Sequence[str], answers: Sequence[Answer]) -> dict[str, Any]:
    """Return answers to prompts as plain values."""
    rows = [{"prompt": text, **answer_object(each)} for text, each in zip(texts, answers, strict=True)]
    return {"router": str(router), "answers": rows}


def answers_as_text(texts: Sequence[str], answers: Sequence[Answer], *, one_of_many: bool = False) -> str:
    """Return answers as lines: each prompt, unless there is one only, who answered, and what was said."""
    return _under_prompts(texts, [response_lines(each) for each in answers], one_of_many)


def _under_prompts(texts: Sequence[str], lines: Sequence[Sequence[str]], one_of_many: bool = False) -> str:
    many = one_of_many or len(texts) > 1
    shown = [(f"[prompt] {text}", *said) if many else said for text, said in zip(texts, lines, strict=True)]
    return "\n".join(line for each in shown for line in each)


def file_as_values(report: AnswerFileReport, output: Path) -> dict[str, Any]:
    """Return what a run over a file of prompts did as plain values."""
    return {
        "output": str(output),
        "total": report.total,
        "skipped": report.skipped,
        "answered": report.by_adapter,
        "fallbacks": report.fallbacks,
        "tokens": report.tokens,
        "failed": [
            {"id": row.id, "line": row.line, "error": row.error.what, "hint": row.error.hint} for row in report.failed
        ],
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
    """Return one line for each row that no answer could be given to."""
    return [f"{source}:{row.line}: id {row.id!r}: {row.error.what}" for row in report.failed]
