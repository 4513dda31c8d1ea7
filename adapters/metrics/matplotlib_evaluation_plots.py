"""Pictures of an evaluation: confusion matrix, reliability diagram, risk-coverage curve."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from adapters.files.figures import save_figure
from adapters.metrics.inline_svg import inline_svg
from application.routing.evaluate_router import EvaluateReport
from domain.evaluation import CalibrationBin

_BLUE, _RED, _GREY = "#31688e", "#c44e52", "#888888"


def plot_evaluation(report: EvaluateReport, folder: Path) -> list[Path]:
    """Draw three PNG files into `folder`, made when it is not there; return their paths.

    Raises:
        StorageError: the file system refused.
    """
    drawings = {"confusion-matrix": _confusion, "reliability": _reliability, "risk-coverage": _risk_coverage}
    paths = []
    for name, draw in drawings.items():
        side = 1.6 + 0.55 * len(report.card.labels) if draw is _confusion else 0.0
        figure = Figure(figsize=(max(5.5, side), max(4.5, 0.85 * side)), layout="constrained")
        draw(figure.add_subplot(), report)
        paths.append(folder / f"{name}.png")
        save_figure(figure, paths[-1], dpi=120)
    return paths


def evaluation_svgs(report: EvaluateReport) -> dict[str, str]:
    """Return the reliability diagram and the risk-coverage curve as SVG in a page's colours."""
    colours = {_BLUE: "var(--main)", _RED: "var(--bad)", _GREY: "var(--quiet)"}
    drawings = {
        "reliability": ("Reliability diagram", _reliability),
        "risk_coverage": ("Risk-coverage curve", _risk_coverage),
    }
    return {
        key: inline_svg(partial(draw, report=report), name, (5.5, 4.2), colours)
        for key, (name, draw) in drawings.items()
    }


def _confusion(axes: Any, report: EvaluateReport) -> None:
    names = report.card.labels.names
    counts = np.zeros((len(names), len(names)), int)
    for (gold, predicted), count in report.figures.confusion.items():
        counts[gold, predicted] = count
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    for (gold, predicted), count in np.ndenumerate(counts):
        if count:
            colour = "white" if shares[gold, predicted] > 0.5 else "black"
            axes.text(predicted, gold, str(count), ha="center", va="center", color=colour)
    axes.set_xticks(range(len(names)), names, rotation=40, ha="right", rotation_mode="anchor")
    axes.set_yticks(range(len(names)), names)
    axes.set_xlabel("predicted adapter")
    axes.set_ylabel("right adapter")
    axes.set_title(f"Accuracy {report.figures.accuracy:.4f} on {report.figures.total} prompts")


def _reliability(axes: Any, report: EvaluateReport) -> None:
    bins = report.figures.reliability
    axes.plot([0, 1], [0, 1], linestyle="--", color=_GREY, label="perfectly calibrated")
    for each in bins:
        share = each.count / report.figures.total
        axes.bar(each.low, each.accuracy, each.high - each.low, align="edge", color=_BLUE, alpha=0.25 + 0.75 * share)
        middle = (each.low + each.high) / 2
        axes.text(middle, 0.01, str(each.count), ha="center", va="bottom", fontsize="x-small")
        axes.vlines(each.confidence, *_interval(each), color=_RED, linewidth=1)
    axes.plot(
        [each.confidence for each in bins],
        [each.accuracy for each in bins],
        "o",
        color=_RED,
        markersize=4,
        label="this router, with 95 % intervals",
    )
    axes.set_xlim(0, 1)
    axes.set_ylim(0, 1.02)
    axes.set_xlabel("confidence (numbers: prompts in each bar)")
    axes.set_ylabel("share of right decisions")
    axes.set_title(f"Expected calibration error {report.figures.calibration_error:.4f}")
    axes.legend(loc="upper left")


def _interval(each: CalibrationBin) -> tuple[float, float]:
    """Return Wilson's 95 % interval of a bin's share of right decisions: few prompts tell little."""
    from scipy.stats import binomtest

    low, high = binomtest(round(each.accuracy * each.count), each.count).proportion_ci(method="wilson")
    return float(low), float(high)


def _limit_places(report: EvaluateReport) -> dict[tuple[float, float], list[float]]:
    """Return the target errors whose limits lie at each place of the curve (coverage, risk), by confidence alone."""
    places: dict[tuple[float, float], list[float]] = {}
    for one in report.card.trade_off:
        answered = [point for point in report.figures.risk_coverage if point.confidence >= one.min_confidence]
        if answered:
            places.setdefault((answered[-1].coverage, answered[-1].risk), []).append(one.target_error)
    return places


def _risk_coverage(axes: Any, report: EvaluateReport) -> None:
    figures, target = report.figures, report.card.target_error
    points = figures.risk_coverage
    axes.step(
        [p.coverage for p in points], [p.risk for p in points], where="post", color=_BLUE, label="by confidence"
    )
    for index, ((coverage, risk), targets) in enumerate(_limit_places(report).items()):
        name = "limits for other target errors" if index == 0 else None
        axes.plot([coverage], [risk], "|", color=_GREY, markersize=12, label=name)
        text = " to ".join(f"{target_error:g}" for target_error in sorted({min(targets), max(targets)}))
        axes.annotate(
            text, (coverage, risk), (-3, 6 + 9 * (index % 3)), textcoords="offset points", ha="right", size=7
        )
    if figures.coverage:
        risk = 1 - figures.selective_accuracy
        axes.plot([figures.coverage], [risk], "o", color=_RED, label="at this router's thresholds")
    axes.axhline(target, linestyle="--", color=_GREY, label=f"target error {target:g}")
    axes.set_xlim(0, 1.02)
    axes.set_ylim(0, max(axes.get_ylim()[1], 1.8 * target))  # the line lies below the legend
    axes.set_xlabel("share of prompts answered")
    axes.set_ylabel("share of wrong answers among them")
    axes.set_title(f"Area under the risk-coverage curve {figures.risk_coverage_area:.4f}")
    axes.legend(loc="upper left")
