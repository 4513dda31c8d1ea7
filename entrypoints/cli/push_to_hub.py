"""``moe-router push-to-hub``: share a router on the Hugging Face hub."""

from __future__ import annotations

from pathlib import Path

import click

from entrypoints.bootstrap import Application
from entrypoints.cli.next_step import next_step
from entrypoints.cli.options import PATH, json_option
from entrypoints.reports.printing import print_json


@click.command("push-to-hub")
@click.argument("router", type=PATH)
@click.argument("name", metavar="OWNER/NAME")
@click.option("--public", is_flag=True, help="Let everybody see a new repository; otherwise only you do.")
@click.option("--message", default="Upload a router", help="Message of the commit.")
@json_option
@click.pass_obj
def command(app: Application, router: Path, name: str, *, public: bool, message: str, as_json: bool) -> None:
    """Put ROUTER, a file or a folder, on the Hugging Face hub: weights, config.json and model card, as one commit.

    Needs HF_TOKEN or `hf auth login`. A router keeps its training prompts as plain text: a new repository is private
    unless --public is given. Others then use --router hf://OWNER/NAME.
    """
    from adapters.router.hub_routers import push_router

    loaded = app.routers.load(router)
    address = push_router(loaded, name, public=public, message=message)
    shared = f"hf://{name.removeprefix('hf://')}"
    if as_json:
        print_json({"router": shared, "sha256": loaded.sha256, "commit": address})
    else:
        click.echo(f"✓ {shared} holds this router now: {address}")
    next_step("describe", shared)
