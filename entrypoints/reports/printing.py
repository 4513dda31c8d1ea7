"""Prints a report as text or as JSON: the one place that decides how."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, TypeVar

import click

Report = TypeVar("Report")


def json_bytes(values: Any) -> bytes:
    """Return plain values as JSON that people can read, too, with a newline at the end."""
    import orjson

    return orjson.dumps(values, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)


def print_json(values: Any) -> None:
    """Print plain values as one JSON object."""
    click.echo(json_bytes(values).decode(), nl=False)


def print_report(
    report: Report,
    as_text: Callable[[Report], str],
    as_values: Callable[[Report], Any],
    *,
    as_json: bool,
    saved: Iterable[object] = (),
) -> None:
    """Print a report as text or as one JSON object; then say on stderr which files were saved."""
    if as_json:
        print_json(as_values(report))
    else:
        click.echo(as_text(report))
    for each in saved:
        click.echo(f"Saved {each}", err=True)
