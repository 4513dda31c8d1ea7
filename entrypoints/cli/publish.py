"""``moe-router publish``: upload a routing data set to a Modal volume."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from entrypoints.cli.next_step import next_step, option
from entrypoints.cli.options import volume_option
from entrypoints.on_modal.places import DATASETS_FOLDER
from entrypoints.settings import Variable

if TYPE_CHECKING:
    from entrypoints.bootstrap import Application


@click.command("publish")
@click.argument("dataset_dir", type=click.Path(path_type=Path))
@volume_option
@click.option("--remote-dir", default="datasets", help="Folder on the volume that data sets lie in.")
@click.option("--dry-run", is_flag=True, help="Show what would be uploaded; needs no Modal account.")
@click.option("--latest", is_flag=True, help="Also make it routing_latest, which training uses by default.")
@click.option("--force", is_flag=True, help="Replace a published data set of this name that has other content.")
@click.option("--answers", is_flag=True, help="Also upload the reference answers of the held-out rows.")
@click.option("--create-volume", is_flag=True, help="Make the volume when it does not exist.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@click.pass_obj
def command(
    app: Application,
    dataset_dir: Path,
    volume: str,
    remote_dir: str,
    dry_run: bool,
    latest: bool,
    force: bool,
    answers: bool,
    create_volume: bool,
    as_json: bool,
) -> None:
    """Upload train, val, eval (where there is one) and metadata of DATASET_DIR, and verify what arrived.

    Files that are already there with the same content are not uploaded again, so a run that was cut off is finished
    by running it again. Readers of the volume see the old content or the new, never a mix.
    """
    from application.publishing.publish_dataset import PublishRequest
    from entrypoints.reports import publication
    from entrypoints.reports.printing import print_json

    request = PublishRequest(dataset_dir, remote_dir, latest, force, answers)
    plan = app.plan_publication()(request)
    if not as_json:
        click.echo(publication.header(plan, volume))
    if dry_run:
        if as_json:
            print_json(publication.as_values(plan, volume, None))
        else:
            click.echo(publication.preview(plan, volume))
        return
    elsewhere = (volume, remote_dir) != (app.settings.data_volume, DATASETS_FOLDER)
    if elsewhere:
        click.echo(
            f"note: containers look for data sets in {app.settings.data_volume}:{DATASETS_FOLDER}/ only "
            f"({Variable.MODAL_DATA_VOLUME} names another volume)",
            err=True,
        )
    report = app.publish_dataset(volume, create=create_volume)(plan)
    if as_json:
        print_json(publication.as_values(plan, volume, report))
    else:
        click.echo(publication.as_text(report, volume))
    if elsewhere:
        return
    folder = None if latest else f"/datasets/{plan.dataset}"
    next_step("train", "--backend", "modal", *option("--dataset-dir", folder))
