"""``moe-router remove-adapter``: make a router forget one adapter."""

from __future__ import annotations

import click
from attrs import evolve

from entrypoints.bootstrap import Application
from entrypoints.cli.grow_options import Growth, grow, grow_options
from entrypoints.version import tool_version


@click.command("remove-adapter")
@click.argument("name")
@grow_options
@click.pass_obj
def command(app: Application, /, name: str, growth: Growth) -> None:
    """Make a router forget the adapter NAME, and report what that does to the others.

    Makes a new data set without the adapter's rows and trains a new router on it. To keep the router and only
    mask an adapter at decision time, use --disable with route or infer.
    """
    without = f"{growth.router.stem.removesuffix('-grown')}-without-{name}.safetensors"
    growth = evolve(growth, router_out=growth.router_out or growth.router.with_name(without))
    remove = app.remove_from_dataset()
    grow(app, growth, lambda out: remove(growth.dataset_dir, name, output_dir=out, tool_version=tool_version()))
