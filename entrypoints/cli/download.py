"""``moe-router download``: fetch a data set or a trained router from a Modal volume."""

from __future__ import annotations

from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

import click

from entrypoints.cli.next_step import next_step
from entrypoints.on_modal.places import OUTPUT
from entrypoints.reports.printing import print_json

if TYPE_CHECKING:
    from entrypoints.bootstrap import Application

ROUTER_SUFFIXES = (".safetensors", ".pt")


@click.command("download")
@click.argument("name")
@click.argument("target", type=click.Path(path_type=Path), required=False)
@click.option("--volume", help="Modal volume.  [default: moe-lora-data for data sets, routing-output for routers]")
@click.option("--remote-dir", default="datasets", help="Folder on the volume that data sets lie in.")
@click.option("--force", is_flag=True, help="Replace TARGET when it is there.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@click.pass_obj
def command(
    app: Application, name: str, target: Path | None, volume: str | None, remote_dir: str, force: bool, as_json: bool
) -> None:
    """Fetch NAME and verify it; TARGET is complete or absent.

    NAME is a router file (it ends in .safetensors or .pt, for example router-head.safetensors) or else a data set
    (for example routing_latest). Without TARGET a router lands in the current folder, a data set in datasets/NAME.
    """
    from application.publishing.download import DownloadRequest

    is_router = name.endswith(ROUTER_SUFFIXES)
    where = volume or (OUTPUT if is_router else app.settings.data_volume)
    default = Path(PurePosixPath(name).name) if is_router else Path("datasets") / name
    request = DownloadRequest(name, target or default, remote_dir, force)
    report = (app.download_router(where) if is_router else app.download_dataset(where))(request)
    if as_json:
        content = {"target": str(report.target), "volume": where, "files": report.files, "verified": report.verified}
        print_json(content)
        return
    click.echo(f"✓ Downloaded {where}:{name} -> {report.target}")
    click.echo(f"  {len(report.files)} file(s), verified against {report.verified}")
    next_step("describe" if is_router else "verify", report.target)
