"""Prints a report as text or as JSON: the one place that decides how."""

from __future__ import annotations

from typing import Any

import click


def json_bytes(values: Any) -> bytes:
    """Return plain values as JSON that people can read, too, with a newline at the end."""
    import orjson

    return orjson.dumps(values, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)


def print_json(values: Any) -> None:
    """Print plain values as one JSON object."""
    click.echo(json_bytes(values).decode(), nl=False)
