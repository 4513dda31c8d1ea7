"""``moe-router datasets``: list the routing data sets on a Modal volume."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from entrypoints.cli.options import volume_option
from entrypoints.reports.printing import print_json

if TYPE_CHECKING:
    from application.publishing.list_datasets import PublishedDataset
    from entrypoints.bootstrap import Application


@click.command("datasets")
@volume_option
@click.option("--remote-dir", default="datasets", help="Folder on the volume that data sets lie in.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@click.pass_obj
def command(app: Application, volume: str, remote_dir: str, as_json: bool) -> None:
    """List the routing data sets on a Modal volume; * marks the one that training uses by default."""
    found = app.list_datasets(volume)(remote_dir)
    if as_json:
        from attrs import asdict

        print_json({"volume": volume, "datasets": [asdict(each) for each in found]})
        return
    if not found:
        click.echo(f"No data sets in {volume}:{remote_dir}/ (publish one: moe-router publish DATASET_DIR)")
        return
    width = max(len(each.name) for each in found)
    click.echo(f"  {'DATA SET':<{width}}  {'TRAIN':>6} {'VAL':>6} {'EVAL':>6} {'SIZE':>9}  CREATED")
    for each in found:
        click.echo(_line(each, width))


def _line(dataset: PublishedDataset, width: int) -> str:
    counts = " ".join(f"{dataset.samples.get(part, '-'):>6}" for part in ("train", "val", "eval"))
    created = (dataset.created_at or "-")[:19]
    note = "" if dataset.complete else "  incomplete"
    mark = "*" if dataset.latest else " "
    return f"{mark} {dataset.name:<{width}}  {counts} {_size(dataset.size):>9}  {created}{note}"


def _size(size: int) -> str:
    return f"{size} B" if size < 1000 else f"{size / 1000:.1f} kB" if size < 1_000_000 else f"{size / 1e6:.1f} MB"
