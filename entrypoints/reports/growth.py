"""How ``add-adapter`` and ``remove-adapter`` tell what they did."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from application.training.grow_router import GrowRouterReport
from entrypoints.reports.trade_off import expectation


def as_text(report: GrowRouterReport) -> str:
    """Return the report for people: what changed in the data, and per adapter before and after."""
    return "\n".join(_lines(report))


def _lines(report: GrowRouterReport) -> Iterator[str]:
    grown, training = report.grown, report.training
    yield f"Data set {grown.path}: " + ", ".join(f"{count} {split}" for split, count in grown.counts.items())
    how = f"{training.steps} steps, stopped: {training.stop_reason}" if training else "an earlier run trained it"
    yield f"Router   {report.router_path} ({how})"
    yield ""
    yield f"Recall on the prompts of {report.after.data_path.name}"
    if report.after.remembered:
        yield f"  {report.after.remembered} of these prompts were trained or calibrated on: the figures flatter"
    yield f"  {'adapter':<24} {'before':>8} {'after':>8} {'change':>8}"
    for one in report.changes:
        change = f"{one.after - one.before:+.4f}" if one.before is not None and one.after is not None else "–"
        yield f"  {one.adapter:<24} {_rate(one.before):>8} {_rate(one.after):>8} {change:>8}"
    before, after = report.before.figures, report.after.figures
    yield f"  {'accuracy over all':<24} {before.accuracy:>8.4f} {after.accuracy:>8.4f}"
    yield f"  {'share answered':<24} {before.coverage:>8.4f} {after.coverage:>8.4f}"
    yield f"  {'right among answered':<24} {before.selective_accuracy:>8.4f} {after.selective_accuracy:>8.4f}"
    yield expectation(report.cards[1])


def _rate(value: float | None) -> str:
    return "–" if value is None else f"{value:.4f}"


def as_values(report: GrowRouterReport) -> dict[str, Any]:
    """Return the report as plain values."""
    grown, training = report.grown, report.training
    return {
        "dataset": str(grown.path),
        "labels": grown.labels.as_mapping(),
        "samples": {str(split): count for split, count in grown.counts.items()},
        "changed_samples": {str(split): count for split, count in grown.changed.items()},
        "router": str(report.router_path),
        "steps": training.steps if training else None,
        "stop_reason": training.stop_reason if training else None,
        "scored": {"before": str(report.before.data_path), "after": str(report.after.data_path)},
        "remembered": {"before": report.before.remembered, "after": report.after.remembered},
        "accuracy": {"before": report.before.figures.accuracy, "after": report.after.figures.accuracy},
        "coverage": {"before": report.before.figures.coverage, "after": report.after.figures.coverage},
        "out_of_scope_examples": {"before": report.cards[0].n_out_of_scope, "after": report.cards[1].n_out_of_scope},
        "recall": {one.adapter: {"before": one.before, "after": one.after} for one in report.changes},
    }
