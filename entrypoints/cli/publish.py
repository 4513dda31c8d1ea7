"""``moe-router publish``: upload a routing data set to a Modal volume."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from entrypoints.cli.next_step import next_step, option
from entrypoints.cli.options import volume_option
from entrypoints.on_modal.places import DATASETS_FOLDER
from entrypoints.settings import Variable

if TYPE_CHECKING:
    from application.publishing.publish_dataset import PublishPlan, PublishReport, Transfer
    from entrypoints.bootstrap import Application

RULE = "=" * 60


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

    request = PublishRequest(dataset_dir, remote_dir, latest, force, answers)
    plan = app.plan_publication()(request)
    if not as_json:
        click.echo("\n".join(_header(plan, volume)))
    if dry_run:
        click.echo(_as_json(plan, volume, None) if as_json else "\n".join(_preview(plan, volume)))
        return
    if (volume, remote_dir) != (app.settings.data_volume, DATASETS_FOLDER):
        click.echo(
            f"note: containers look for data sets in {app.settings.data_volume}:{DATASETS_FOLDER}/ only "
            f"({Variable.MODAL_DATA_VOLUME} names another volume)",
            err=True,
        )
    report = app.publish_dataset(volume, create=create_volume)(plan)
    click.echo(_as_json(plan, volume, report) if as_json else "\n".join(_outcome(report, volume)))
    folder = None if latest else f"/datasets/{plan.dataset}"
    next_step("train", "--backend", "modal", *option("--dataset-dir", folder))


def _header(plan: PublishPlan, volume: str) -> list[str]:
    lines = [
        RULE,
        f"Uploading Dataset: {plan.dataset}",
        RULE,
        f"Local directory:  {plan.local_dir}",
        f"Modal volume:     {volume}",
        f"Remote path:      {plan.remote}/",
        f"Files to upload:  {len(plan.files)}",
    ]
    if plan.latest:
        lines.append(f"Also replaces:    {plan.latest}/")
    return [*lines, RULE, ""]


def _preview(plan: PublishPlan, volume: str) -> list[str]:
    folders = [plan.remote, *([plan.latest] if plan.latest else [])]
    lines = [
        f"Would upload {file.name} -> {volume}:{folder}/{file.name} ({file.size} bytes)"
        for folder in folders
        for file in plan.files
    ]
    return [*lines, "", "Dry run: nothing was uploaded"]


def _outcome(report: PublishReport, volume: str) -> list[str]:
    plan = report.plan
    lines = _transfers(report.files, f"{volume}:{plan.remote}")
    if plan.latest and report.latest is not None:
        lines += _transfers(report.latest, f"{volume}:{plan.latest}")
    done = f"Uploaded {report.uploaded} file(s) to {volume}:{plan.remote}/"
    if present := sum(kind == "already there" for kind in report.files.values()):
        done += f"; {present} already there"
    lines += [RULE, "✓ Upload complete!", f"  {done}"]
    if plan.latest:
        lines.append(f"  {plan.latest}/ now holds {plan.dataset}")
    return [*lines, RULE]


def _transfers(transfers: dict[str, Transfer], folder: str) -> list[str]:
    from application.publishing.publish_dataset import Transfer

    lines = []
    for name, kind in transfers.items():
        if kind is Transfer.REMOVED:
            lines += [f"Removing {folder}/{name}", "  ✓ Success (the new data set has none)", ""]
            continue
        detail = {Transfer.PRESENT: " (already there, same content)", Transfer.REPLACED: " (replaced)"}.get(kind, "")
        lines += [f"Uploading {name} -> {folder}/{name}", f"  ✓ Success{detail}", ""]
    return lines


def _as_json(plan: PublishPlan, volume: str, report: PublishReport | None) -> str:
    import orjson

    content: dict[str, Any] = {
        "dataset": plan.dataset,
        "local_dir": str(plan.local_dir),
        "volume": volume,
        "remote_dir": plan.remote,
        "latest_dir": plan.latest,
        "dry_run": report is None,
        "files": [
            {
                "name": file.name,
                "size": file.size,
                "sha256": file.sha256,
                "outcome": "planned" if report is None else str(report.files[file.name]),
            }
            for file in plan.files
        ],
    }
    return orjson.dumps(content).decode()
