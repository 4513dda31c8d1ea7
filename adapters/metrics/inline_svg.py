"""Pictures as SVG that stands inside a page and takes the page's colours, light or dark."""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Mapping
from typing import Any, Final

from matplotlib import rc_context
from matplotlib.figure import Figure

INK: Final = "#010203"
"""Stands for the page's ``currentColor``."""


def inline_svg(
    draw: Callable[[Any], None], name: str, size: tuple[float, float], colours: Mapping[str, str] | None = None
) -> str:
    """Return one drawing as an ``<svg>`` element; the same drawing gives the same text.

    Args:
        draw: draws into axes.
        name: says what it shows, for those who cannot see it; another one for every drawing of a page.
        size: width and height in inches.
        colours: what to put in the place of colours that were drawn with, for example ``var(--main)``.
    """
    settings: dict[Any, Any] = {
        "svg.fonttype": "none",
        "svg.hashsalt": name,
        "text.parse_math": False,  # a name may hold dollar signs
        "font.family": "sans-serif",
        **dict.fromkeys(("text.color", "axes.edgecolor", "axes.labelcolor", "xtick.color", "ytick.color"), INK),
    }
    buffer = io.StringIO()
    with rc_context(settings):
        figure = Figure(figsize=size, layout="constrained")
        axes = figure.add_subplot()
        draw(axes)
        figure.patch.set_alpha(0)
        axes.patch.set_alpha(0)
        if legend := axes.get_legend():
            legend.set_frame_on(False)
        figure.savefig(buffer, format="svg", metadata={"Date": None})
    element = buffer.getvalue()
    element = element[element.index("<svg") :]
    element = re.sub(r"<metadata>.*?</metadata>", "", element, flags=re.DOTALL)
    for drawn, shown in {INK: "currentColor", **(colours or {})}.items():
        element = element.replace(drawn, shown)
    return element.replace("<svg", f'<svg role="img" aria-label="{name}"', 1).strip()
