"""``moe-router describe``: print what a router file is."""

from __future__ import annotations

from pathlib import Path

import click

from entrypoints.bootstrap import Application
from entrypoints.cli.next_step import next_step
from entrypoints.reports.printing import print_json


@click.command("describe")
@click.argument("router", type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="Print the description as one JSON object.")
@click.pass_obj
def command(app: Application, router: Path, as_json: bool) -> None:
    """Print what a router file or folder is, after verifying every byte of it; loads no model."""
    from entrypoints.reports import router_description

    asked, router = router, app.routers.located(router)
    loaded = app.routers.load(router)
    if as_json:
        print_json(router_description.as_values(loaded, router))
    else:
        click.echo(router_description.as_text(loaded, router))
        next_step("route", "--router", asked, "--prompt", "…")
