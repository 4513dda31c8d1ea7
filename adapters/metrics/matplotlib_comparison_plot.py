"""A picture of a comparison: who answers whose prompts how well."""

from __future__ import annotations

from io import BytesIO

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from application.comparing.compare_report import CompareReport
from domain.comparison import BASE

DARK = 0.45
"""Brightness, 0 to 1, below which a colour takes white letters."""


def comparison_png(report: CompareReport) -> bytes:
    """Return the heatmap as PNG: data sets down, base model and adapters across; darker is better.

    The colour is how far a cell lies behind the best of its row, so that data sets with long losses do not outshine
    the others; a frame marks each data set's own adapter.
    """
    found = report.adapters
    rows, columns = list(found.counts), [BASE, *found.names]
    losses = np.array([[found.cell(row, column).loss.value for column in columns] for row in rows])  # (rows, columns)
    behind = losses - losses.min(axis=1, keepdims=True)
    figure = Figure(figsize=(2.5 + 1.1 * len(columns), 2.0 + 0.7 * len(rows)), layout="constrained")
    axes = figure.add_subplot()
    image = axes.imshow(behind, cmap="Blues_r", vmin=0)
    for (row, column), loss in np.ndenumerate(losses):
        cell = found.cell(rows[row], columns[column])
        half = (cell.loss.high - cell.loss.low) / 2
        colour = (
            "white" if np.mean(image.to_rgba(behind[row, column])[:3]) < DARK else "black"
        )  # readable on the cell
        axes.text(column, row, f"{loss:.2f}\n±{half:.2f}", ha="center", va="center", color=colour, fontsize="small")
        if columns[column] == rows[row]:
            corner = (column - 0.48, row - 0.48)
            axes.add_patch(Rectangle(corner, 0.96, 0.96, fill=False, edgecolor="#c44e52", linewidth=2))
    axes.set_xticks(range(len(columns)), columns, rotation=40, ha="right", rotation_mode="anchor")
    axes.set_yticks(range(len(rows)), rows)
    axes.set_xlabel("answered by (framed: its own adapter)")
    axes.set_ylabel("prompts of")
    axes.set_title("Loss of the reference answers, nats per token", parse_math=False)
    figure.colorbar(image, ax=axes, label="behind the best of the row")
    buffer = BytesIO()
    figure.savefig(buffer, dpi=120, format="png")
    return buffer.getvalue()
