"""Draw docs/pictures: the flow and the layers, as SVG. ``python docs/scripts/pictures.py``"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from matplotlib import rc_context
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "docs" / "pictures"
INK, QUIET, PALE, BLUE, GREEN, RED = "#1c2330", "#5b6675", "#f3f6fa", "#2f6fa7", "#2e7d4f", "#b3362c"
LAYERS = {
    "entrypoints": "commands, server, Modal app, api",
    "adapters": "one folder per concern, one module per technology",
    "application": "use cases and their ports",
    "domain": "values and pure functions",
}


def box(
    axes: Any, x: float, y: float, width: float, height: float, title: str, text: str = "", edge: str = BLUE
) -> None:
    """Draw a box with a title and a quieter line below it; x and y are its lower left corner."""
    shape = "round,pad=0,rounding_size=0.08"
    axes.add_patch(
        FancyBboxPatch((x, y), width, height, boxstyle=shape, facecolor=PALE, edgecolor=edge, linewidth=1.4)
    )
    middle = x + width / 2
    axes.text(middle, y + height * (0.66 if text else 0.5), title, ha="center", va="center", weight="bold", color=INK)
    axes.text(middle, y + height * 0.3, text, ha="center", va="center", fontsize=8, color=QUIET)


def arrow(
    axes: Any, start: tuple[float, float], end: tuple[float, float], text: str = "", colour: str = QUIET
) -> None:
    """Draw an arrow with a word beside it."""
    axes.add_patch(FancyArrowPatch(start, end, arrowstyle="-|>", mutation_scale=13, color=colour, linewidth=1.3))
    if text:
        axes.text(
            (start[0] + end[0]) / 2, (start[1] + end[1]) / 2 + 0.09, text, ha="center", fontsize=8, color=colour
        )


def canvas(width: float, height: float) -> tuple[Figure, Any]:
    """Return a figure whose coordinates are inches, on white, so that it can be read on dark pages, too."""
    figure = Figure(figsize=(width, height), facecolor="white")
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set(xlim=(0, width), ylim=(0, height))
    axes.set_axis_off()
    return figure, axes


def flow() -> Figure:
    """Return the way from training data to a router, and from a prompt to an answer."""
    figure, axes = canvas(10, 4.3)
    axes.text(0.2, 4.0, "Once, per set of adapters", color=QUIET, fontsize=9)
    for i, name in enumerate(("billing", "travel", "recipes")):
        box(axes, 0.2, 3.3 - 0.45 * i, 1.5, 0.38, f"{name} rows", edge=QUIET)
    box(axes, 2.6, 2.6, 1.9, 0.9, "routing data set", "balanced, no leakage")
    box(axes, 5.4, 2.6, 1.9, 0.9, "frozen base model", "lower blocks, one pass")
    box(axes, 8.0, 2.6, 1.8, 0.9, "router", "head, bank, limits", GREEN)
    for i in range(3):
        arrow(axes, (1.7, 3.49 - 0.45 * i), (2.6, 3.05))
    axes.text(2.15, 3.62, "generate", ha="center", fontsize=8, color=QUIET)
    arrow(axes, (4.5, 3.05), (5.4, 3.05), "train")
    arrow(axes, (7.3, 3.05), (8.0, 3.05))
    axes.plot([0.2, 9.8], [2.15, 2.15], color="#d9dfe7", linewidth=1)
    axes.text(0.2, 1.9, "For every prompt", color=QUIET, fontsize=9)
    box(axes, 0.2, 0.75, 1.5, 0.7, "prompt", edge=QUIET)
    box(axes, 2.6, 0.65, 1.9, 0.9, "frozen base model", "no adapter active")
    box(axes, 5.4, 0.65, 1.9, 0.9, "router", "confidence, scope", GREEN)
    arrow(axes, (1.7, 1.1), (2.6, 1.1))
    arrow(axes, (4.5, 1.1), (5.4, 1.1), "states")
    for i, (name, edge) in enumerate((("base + billing", BLUE), ("base + travel", BLUE), ("base alone", RED))):
        y = 1.45 - 0.55 * i
        box(axes, 8.0, y - 0.2, 1.8, 0.4, name, edge=edge)
        arrow(axes, (7.3, 1.1), (8.0, y), colour=edge)
    axes.text(7.62, 0.28, "none of them", ha="center", fontsize=8, color=RED)
    return figure


def packages(layer: str) -> Iterable[str]:
    """Return the folders of a layer that are there now."""
    return sorted(path.parent.name for path in (ROOT / layer).glob("*/__init__.py"))


def layers() -> Figure:
    """Return the four layers with what lies in each."""
    figure, axes = canvas(10, 4.6)
    for i, (name, text) in enumerate(LAYERS.items()):
        y = 3.6 - 1.12 * i
        shape = "round,pad=0,rounding_size=0.08"
        axes.add_patch(
            FancyBboxPatch((0.3, y), 9.4, 0.82, boxstyle=shape, facecolor=PALE, edgecolor=BLUE, linewidth=1.4)
        )
        axes.text(0.5, y + 0.53, name, weight="bold", color=INK, va="center", fontsize=12)
        axes.text(0.5, y + 0.24, text, color=QUIET, va="center", fontsize=8)
        inside = " · ".join(packages(name)) or "flat: one module per idea"
        axes.text(9.5, y + 0.41, inside, ha="right", va="center", fontsize=8.5, color=INK)
        if i:
            arrow(axes, (5, y + 1.12), (5, y + 0.82), colour=BLUE)
    return figure


def main() -> None:
    """Write both; the same code and folders give the same bytes."""
    FOLDER.mkdir(exist_ok=True)
    for draw in (flow, layers):
        with rc_context({"svg.fonttype": "none", "svg.hashsalt": draw.__name__, "font.family": "sans-serif"}):
            draw().savefig(FOLDER / f"{draw.__name__}.svg", metadata={"Date": None})


if __name__ == "__main__":
    main()
