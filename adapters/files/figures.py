"""Pictures that appear complete or not at all."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path
from typing import Any

from adapters.files.atomic_files import write_bytes


def save_figure(figure: Any, path: Path, *, dpi: int) -> None:
    """Write a figure of matplotlib's as PNG; raises StorageError."""
    drawn = BytesIO()
    figure.savefig(drawn, dpi=dpi, format="png")
    write_bytes(path, drawn.getvalue())
