"""An evaluation as plain values, in the form that ``router-eval.json`` has."""

from __future__ import annotations

import math
from typing import Any

import attrs

from application.routing.evaluate_router import EvaluateReport


def evaluation_values(report: EvaluateReport) -> dict[str, Any]:
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
    if report.flips:
        values["robustness"] = {name: attrs.asdict(flips) for name, flips in report.flips.items()}
    return values
