"""A picture of a routing data set: lengths, telling words, near-duplicates across adapters."""

from __future__ import annotations

import math
import statistics
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import rc_context
from matplotlib.figure import Figure

from adapters.files.figures import save_figure
from adapters.metrics.inline_svg import inline_svg
from application.datasets.inspect_dataset import InspectReport
from domain.printable import printable, shown

_BLUE = "#31688e"
_COLUMNS = 4
_LONG = 10
"""A text this many times as long as the median needs a logarithmic axis: else the others share a line at its left."""


def plot_dataset(report: InspectReport, path: Path) -> None:
    """Draw the report as a PNG; raises StorageError when the file cannot be written."""
    with rc_context({"text.parse_math": False}):  # a word may hold dollar signs
        _draw(report, path)


def dataset_svgs(report: InspectReport) -> dict[str, str]:
    """Return the lengths and the counts of near-duplicates as SVG in a page's colours."""
    colours = {"#000000": "currentColor", _BLUE: "var(--main)"}
    height = 2.0 + 0.6 * len(report.adapters)
    drawings = {"lengths": ("Text lengths", _lengths), "confusable": ("Near-duplicates", _confusable)}
    return {
        key: inline_svg(partial(draw, report=report), name, (5.5, max(3.0, height)), colours)
        for key, (name, draw) in drawings.items()
    }


def _draw(report: InspectReport, path: Path) -> None:
    columns = min(max(len(report.adapters), 2), _COLUMNS)
    rows = 1 + math.ceil(len(report.adapters) / columns)
    figure = Figure(figsize=(4.4 * columns, 4.2 * rows), layout="constrained")
    grid = figure.add_gridspec(rows, columns)
    _lengths(figure.add_subplot(grid[0, : (columns + 1) // 2]), report)
    _confusable(figure.add_subplot(grid[0, (columns + 1) // 2 :]), report)
    for number, adapter in enumerate(report.adapters):
        axes = figure.add_subplot(grid[1 + number // columns, number % columns])
        telling = adapter.telling[::-1]
        axes.barh([shown(one.word) for one in telling], [one.z_score for one in telling], color=_BLUE)
        axes.set_title(f"{adapter.name}: telling words")
        axes.set_xlabel("log-odds against the others (z-score)")
    figure.suptitle(f"Routing data set {printable(report.path.name)}")
    save_figure(figure, path, dpi=110)


def _lengths(axes: Any, report: InspectReport) -> None:
    shown = [adapter for adapter in report.adapters if adapter.lengths]
    lengths = [adapter.lengths for adapter in shown]
    axes.boxplot(lengths, orientation="horizontal", whis=(5, 95), widths=0.5, flierprops={"markersize": 2})
    axes.set_yticks(range(1, len(shown) + 1), [f"{one.name}\n({len(one.lengths)} prompts)" for one in shown])
    axes.invert_yaxis()  # label 0 on top
    everything = [length for those in lengths for length in those]
    if everything and max(everything) > _LONG * statistics.median(everything):
        axes.set_xscale("log")
    axes.set_xlabel("characters per prompt (whiskers: 5 % and 95 %)")
    axes.set_title("Text lengths")


def _confusable(axes: Any, report: InspectReport) -> None:
    names = [adapter.name for adapter in report.adapters]
    axes.set_title(f"Near-duplicate prompts\n(similarity ≥ {report.threshold:g})")
    if len(names) < 2:
        axes.text(0.5, 0.5, "one adapter: nothing to confuse it with", ha="center", va="center")
        axes.set_axis_off()
        return
    counts = np.full((len(names), len(names)), np.nan)
    for (one, other), count in report.n_near_duplicates.items():
        row, column = sorted((names.index(one), names.index(other)))
        counts[column, row] = count
    axes.imshow(
        np.where(counts > 0, counts, np.nan), cmap="Blues", vmin=0, vmax=max(np.nanmax(counts, initial=0), 1) * 2
    )
    for (row, column), count in np.ndenumerate(counts):
        if not np.isnan(count):
            colour = "#202020" if count else None  # on pale blue; on the page, which may be dark
            axes.text(column, row, f"{count:.0f}", ha="center", va="center", color=colour)
    axes.set_xticks(range(len(names) - 1), names[:-1], rotation=30, ha="right")
    axes.set_yticks(range(1, len(names)), names[1:])
    axes.set_xlim(-0.5, max(len(names) - 1.5, 0.5))
    axes.set_ylim(len(names) - 0.5, 0.5)
