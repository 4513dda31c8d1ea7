"""A router's score as a TensorBoard run of its own, beside the runs of training."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path, PurePath

from torch.utils.tensorboard import SummaryWriter

from adapters.metrics.tensorboard_metrics import described, limits_table
from application.routing.evaluate_router import EvaluateReport
from domain.errors import StorageError
from domain.fragility import ChangedFigures, mean_figures
from domain.printable import inline
from domain.robustness import CHANGES


def log_evaluation(report: EvaluateReport, parent: Path, now: datetime) -> Path:
    """Write a run below `parent`: figures (SCALARS), router, limits, changed prompts, warnings (TEXT); return it.

    Its name says when, which file of which data set, and the router's version.

    Raises:
        StorageError: the file system refused.
    """
    scored = re.sub(r"[^\w.-]+", "-", "-".join(PurePath(report.data_path).with_suffix("").parts[-2:]))[-40:]
    folder = parent / f"evaluation_{now:%Y%m%d_%H%M%S}_{scored}_{(report.router_sha256 or 'unsaved')[:8]}"
    try:
        writer = SummaryWriter(str(folder))
        for tag, value in _figures(report).items():
            writer.add_scalar(tag, value, 0)
        for tag, text in _texts(report).items():
            writer.add_text(tag, text)
        writer.close()
    except OSError as error:
        raise StorageError(f"cannot write: {error.strerror or error}", where=folder) from error
    return folder


def _figures(report: EvaluateReport) -> dict[str, float]:
    figures = report.figures
    values = {
        "evaluation/accuracy": figures.accuracy,
        "evaluation/answered": figures.coverage,
        "evaluation/right_among_answered": figures.selective_accuracy,
        "evaluation/calibration_error": figures.calibration_error,
    }
    if report.out_of_scope is not None:
        values |= {
            "evaluation/out_of_scope_refused": report.out_of_scope.refused,
            "evaluation/out_of_scope_auroc": report.out_of_scope.auroc,
        }
    return values


def _texts(report: EvaluateReport) -> dict[str, str]:
    texts = {"router": described(report.card)}
    if report.card.trade_off:
        texts["limits"] = limits_table(report.card)
    if report.robustness:
        texts["robustness"] = robustness_table(report.robustness)
    if report.warnings:
        texts["warnings"] = "\n".join(f"- {inline(warning)}" for warning in report.warnings)
    return texts


def robustness_table(kinds: Mapping[str, ChangedFigures]) -> str:
    """Return what becomes of the decisions under each kind of change, and on average, as a table in Markdown."""
    does = {change.name: change.description for change in CHANGES}
    heads = "prompts with | accuracy | answered | wrong among them | to another adapter | any change | what it does"
    rows = (
        f"| {inline(name)} | {one.accuracy:.1%} | {one.coverage:.1%} | {one.wrong:.1%} | {one.flips:.1%} | "
        f"{one.changes:.1%} | {inline(does.get(name, ''))} |"
        for name, one in {**kinds, "mean": mean_figures(list(kinds.values()))}.items()
    )
    return "\n".join([f"| {heads} |", "| --- " * 7 + "|", *rows])
