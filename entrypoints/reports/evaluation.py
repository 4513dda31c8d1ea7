"""A router's score: what ``moe-router evaluate`` prints, and ``router-eval.json``."""

from __future__ import annotations

import io
import math
import sys
from typing import Any

import attrs
import orjson
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from application.routing.evaluate_router import EvaluateReport
from domain.fragility import mean_figures
from domain.robustness import CHANGES

MOST_COLUMNS = 12
"""With more adapters than this, the confusion table lists pairs instead of a matrix."""


def as_values(report: EvaluateReport) -> dict[str, Any]:
    """Return the report as JSON-ready values; the first four keys are those of the first scripts."""
    figures, names = report.figures, report.card.labels.names
    limits = report.card.thresholds
    values: dict[str, Any] = {
        "accuracy": figures.accuracy,
        "total": figures.total,
        "correct": figures.correct,
        "confusion": {
            f"{names[gold]}->{names[predicted]}": count for (gold, predicted), count in figures.confusion.items()
        },
        "scored": str(report.data_path),
        "remembered": report.remembered,
        "router_sha256": report.router_sha256,
        "macro_f1": figures.macro_f1,
        "adapters": {
            each.adapter: {
                "precision": each.precision,
                "recall": each.recall,
                "f1": each.f1,
                "support": each.support,
            }
            for each in figures.adapters
        },
        "calibration_error": figures.calibration_error,
        "reliability": [attrs.asdict(each) for each in figures.reliability],
        "risk_coverage": {
            "area": figures.risk_coverage_area,
            "points": [attrs.asdict(each) for each in figures.risk_coverage],
        },
        "abstention": {
            "min_confidence": limits.min_confidence,
            "max_out_of_scope": limits.max_out_of_scope if math.isfinite(limits.max_out_of_scope) else None,
            "target_error": report.card.target_error,
            "coverage": figures.coverage,
            "selective_accuracy": figures.selective_accuracy,
        },
    }
    if report.out_of_scope is not None:
        values["out_of_scope"] = {**attrs.asdict(report.out_of_scope), "examples_remembered": report.examples}
    if report.robustness:
        kinds = report.robustness
        values["robustness"] = {
            "mean": attrs.asdict(mean_figures(list(kinds.values()))),
            "kinds": {name: attrs.asdict(each) for name, each in kinds.items()},
        }
    values["warnings"] = list(report.warnings)
    return values


def errors_as_jsonl(report: EvaluateReport) -> bytes:
    """Return every wrong row as a JSON line."""
    return b"".join(orjson.dumps(attrs.asdict(row), option=orjson.OPT_APPEND_NEWLINE) for row in report.wrong)


def as_text(report: EvaluateReport) -> str:
    """Return the report for people."""
    console = Console(file=io.StringIO(), markup=False, width=None if sys.stdout.isatty() else 160)
    figures = report.figures
    console.print(f"Scored {report.data_path} with router {(report.router_sha256 or 'unsaved')[:12]}", soft_wrap=True)
    console.print(f"Accuracy {figures.accuracy:.4f} ({figures.correct} of {figures.total} prompts)\n")
    if report.remembered:
        console.print(f"{report.remembered} of these prompts were trained or calibrated on: the figures flatter\n")
    console.print(_matrix(report) if len(report.card.labels) <= MOST_COLUMNS else _pairs(report))
    console.print(_adapters(report))
    for name, value in _lines(report):
        console.print(Text(f"{name:<28} {value}"), soft_wrap=True)
    if report.robustness:
        console.print(_robustness(report))
    for warning in report.warnings:
        console.print(Text(f"⚠️  {warning}", style="yellow"), soft_wrap=True)
    if report.warnings:
        told = "What other limits would do: moe-router describe ROUTER; the wrong rows: evaluate --errors FILE"
        console.print(told, soft_wrap=True)
    output = console.file
    assert isinstance(output, io.StringIO)
    return "\n".join(line.rstrip() for line in output.getvalue().rstrip().split("\n"))


def _matrix(report: EvaluateReport) -> Table:
    names = report.card.labels.names
    table = Table("right \\ predicted", box=SIMPLE_HEAD, title="Confusion", title_justify="left")
    for name in names:
        table.add_column(name, justify="right")
    for gold, name in enumerate(names):
        cells = []
        for predicted in range(len(names)):
            count = report.figures.confusion.get((gold, predicted), 0)
            style = "" if not count else "green" if gold == predicted else "bold red"
            cells.append(Text(str(count) if count else "·", style=style))
        table.add_row(name, *cells)
    return table


def _pairs(report: EvaluateReport) -> Table:
    names = report.card.labels.names
    table = Table("right", "predicted", "prompts", box=SIMPLE_HEAD, title="Confused most", title_justify="left")
    wrong = [(count, *pair) for pair, count in report.figures.confusion.items() if pair[0] != pair[1]]
    for count, gold, predicted in sorted(wrong, key=lambda each: (-each[0], each[1:]))[:20]:
        table.add_row(names[gold], names[predicted], str(count))
    return table


def _adapters(report: EvaluateReport) -> Table:
    table = Table("adapter", box=SIMPLE_HEAD)
    for name in ("precision", "recall", "F1", "prompts"):
        table.add_column(name, justify="right")
    for each in report.figures.adapters:
        rates = (f"{rate:.4f}" for rate in (each.precision, each.recall, each.f1))
        table.add_row(each.adapter, *rates, str(each.support))
    return table


def _robustness(report: EvaluateReport) -> Table:
    table = Table("prompts with", box=SIMPLE_HEAD, title="Changed prompts", title_justify="left")
    for name in ("accuracy", "answered", "wrong among them", "to another adapter", "any change", "what it does"):
        table.add_column(name, justify="left" if name == "what it does" else "right")
    does = {change.name: change.description for change in CHANGES}
    kinds = report.robustness
    for name, each in {**kinds, "mean": mean_figures(list(kinds.values()))}.items():
        if name == "mean":
            table.add_section()
        rates = (f"{rate:.1%}" for rate in (each.accuracy, each.coverage, each.wrong, each.flips, each.changes))
        table.add_row(name, *rates, does.get(name, ""))
    return table


def _lines(report: EvaluateReport) -> list[tuple[str, str]]:
    figures, limits = report.figures, report.card.thresholds
    lines = [
        ("Expected calibration error", f"{figures.calibration_error:.4f}"),
        ("Area under risk-coverage", f"{figures.risk_coverage_area:.4f}"),
        (
            "At the thresholds",
            f"{figures.coverage:.1%} answered, {figures.selective_accuracy:.4f} of them right (confidence from "
            f"{limits.min_confidence:.3f}, out-of-scope score up to {limits.max_out_of_scope:.3f}, "
            f"target error {report.card.target_error:g})",
        ),
    ]
    if report.out_of_scope is not None:
        scope = report.out_of_scope
        known = f" (prompts among the {report.examples} that it was trained with flatter)" if report.examples else ""
        lines.append(
            (
                "Out of scope",
                f"AUROC {scope.auroc:.4f} (by confidence alone {scope.confidence_auroc:.4f}), "
                f"{scope.refused:.1%} of {scope.total} refused{known}",
            )
        )
    return lines
