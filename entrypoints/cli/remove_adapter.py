"""``moe-router remove-adapter``: make a router forget one adapter."""

from __future__ import annotations

from typing import Any

import click

from entrypoints.bootstrap import Application
from entrypoints.cli.grow_options import grow, grow_options
from entrypoints.version import tool_version


@click.command("remove-adapter")
@click.argument("name")
@grow_options
@click.pass_obj
def command(app: Application, /, name: str, **options: Any) -> None:
    """Make a router forget the adapter NAME, and report what that does to the others.

    Makes a new data set without the adapter's rows and trains a new router on it. To keep the router and only
    mask an adapter at decision time, use --disable with route or infer.
    """
    dataset_dir, router = options["dataset_dir"], options["router"]
    options["router_out"] = options["router_out"] or router.with_name(
        f"{router.stem.removesuffix('-grown')}-without-{name}.safetensors"
    )
    remove = app.remove_from_dataset()
    grow(app, lambda out: remove(dataset_dir, name, output_dir=out, tool_version=tool_version()), **options)
