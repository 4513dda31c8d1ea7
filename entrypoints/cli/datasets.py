"""``moe-router datasets``: list the routing data sets on a Modal volume."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from entrypoints.cli.options import volume_option
from entrypoints.reports.printing import print_report

if TYPE_CHECKING:
    from entrypoints.bootstrap import Application


@click.command("datasets")
@volume_option
@click.option("--remote-dir", default="datasets", help="Folder on the volume that data sets lie in.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@click.pass_obj
def command(app: Application, volume: str, remote_dir: str, as_json: bool) -> None:
    """List the routing data sets on a Modal volume; * marks the one that training uses by default."""
    from entrypoints.reports.published_datasets import as_text, as_values

    print_report(
        app.list_datasets(volume)(remote_dir),
        lambda found: as_text(found, volume, remote_dir),
        lambda found: as_values(found, volume),
        as_json=as_json,
    )
