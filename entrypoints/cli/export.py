"""``moe-router export``: write a router in another form."""

from __future__ import annotations

from pathlib import Path

import click

from domain.errors import TargetExistsError, UsageError
from entrypoints.bootstrap import Application
from entrypoints.cli.options import PATH, base_model_option


@click.command("export")
@click.argument("router", type=PATH)
@click.option(
    "--to",
    "target",
    type=PATH,
    metavar="PATH",
    help="A folder (name without suffix), a .safetensors file, or a .pt file for other tools.",
)
@click.option(
    "--trunk",
    type=PATH,
    metavar="DIR",
    help="A folder with the router and what it reads of its base model, for routing without torch.",
)
@base_model_option("the router's own")
@click.option("--force", is_flag=True, help="Replace what an earlier export left there.")
@click.pass_obj
def command(
    app: Application, router: Path, target: Path | None, trunk: Path | None, base_model: str | None, force: bool
) -> None:
    """Write a router as a folder with config.json and model card, as a file, or as a torch file for other tools.

    A torch file is never read back. To share a router: moe-router push-to-hub.

    With --trunk DIR the base model's embeddings and first blocks are written, too, for ONNX Runtime: route and serve
    --upstream then take --router DIR and need neither torch nor transformers.
    """
    if (target is None) == (trunk is None):
        raise UsageError("give either --to or --trunk")
    loaded = app.routers.load(router)
    if trunk is not None:
        _refuse(trunk, "--trunk", force)
        proof = app.export_trunk(loaded, trunk, base_model)
        click.echo(
            f"moe-router: {proof.prompts} prompts decided as with torch, features differ by at most "
            f"{proof.difference:.0e}",
            err=True,
        )
    elif target is not None:
        app.routers.check_target(target)  # before --force is offered, which does not help against what it refuses
        _refuse(target, "--to", force)
        app.routers.export(loaded, target)
    click.echo(str(trunk or target))


def _refuse(target: Path, flag: str, force: bool) -> None:
    if target.exists() and not force:
        raise TargetExistsError("already exists", where=target, hint=f"choose another {flag}, or --force")
