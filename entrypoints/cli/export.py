"""``moe-router export``: write a router in another form."""

from __future__ import annotations

from pathlib import Path

import click

from domain.errors import TargetExistsError
from entrypoints.bootstrap import Application


@click.command("export")
@click.argument("router", type=click.Path(path_type=Path))
@click.option(
    "--to",
    "target",
    type=click.Path(path_type=Path),
    required=True,
    metavar="PATH",
    help="A folder (name without suffix), a .safetensors file, or a .pt file for other tools.",
)
@click.option("--force", is_flag=True, help="Replace what an earlier export left there.")
@click.pass_obj
def command(app: Application, router: Path, target: Path, force: bool) -> None:
    """Write a router as a folder with config.json and model card, as a file, or as a torch file for other tools.

    A torch file is never read back. To share a folder: hf upload NAME PATH.
    """
    loaded = app.routers.load(router)
    app.routers.check_target(target)  # before --force is offered, which does not help against what it refuses
    if target.exists() and not force:
        raise TargetExistsError("already exists", where=target, hint="choose another --to, or --force")
    app.routers.export(loaded, target)
    click.echo(str(target))
