"""``moe-router add-adapter``: teach a router one adapter more."""

from __future__ import annotations

from pathlib import Path

import click

from domain.labels import check_adapter_name
from entrypoints.bootstrap import Application
from entrypoints.cli.grow_options import Growth, grow, grow_options
from entrypoints.cli.source_options import make_sources, source_options
from entrypoints.version import tool_version


@click.command("add-adapter")
@click.argument("name")
@click.option(
    "--source", "given", multiple=True, required=True, metavar="PATH", help="The adapter's training data; repeatable."
)
@source_options
@grow_options
@click.pass_obj
def command(
    app: Application,
    /,
    name: str,
    given: tuple[str, ...],
    columns: tuple[str, ...],
    dataset_info: Path | None,
    line_limit: int,
    growth: Growth,
) -> None:
    """Teach a router one adapter more, NAME, and report what that does to the others.

    Draws as many prompts from --source (of any kind that `generate` reads) as the other adapters have, makes a new
    data set out of old and new rows, and trains a new router with the old one's layers, pooling and head. Old prompts
    come out of the feature cache.
    """
    (new,) = make_sources(
        {check_adapter_name(name): given}, columns=columns, dataset_info=dataset_info, line_limit=line_limit
    )
    add = app.add_to_dataset()
    grow(app, growth, lambda out: add(growth.dataset_dir, new, output_dir=out, tool_version=tool_version()))
