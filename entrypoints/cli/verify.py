"""``moe-router verify``: check a routing data set."""

from __future__ import annotations

from pathlib import Path

import click

from entrypoints.bootstrap import Application
from entrypoints.cli.next_step import next_step
from entrypoints.reports import verification
from entrypoints.reports.printing import print_report


@click.command("verify")
@click.argument("dataset_dir", type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="Print the report as one JSON object.")
@click.pass_context
def command(ctx: click.Context, dataset_dir: Path, as_json: bool) -> None:
    """Check a routing data set: files and hashes, counts, labels, balance, leakage, metadata.

    Exits with 3 when a check fails.
    """
    app: Application = ctx.obj
    report = app.verify_dataset()(dataset_dir)
    print_report(report, verification.as_text, verification.as_values, as_json=as_json)
    if report.passed:
        next_step("train", "--dataset-dir", dataset_dir)
    ctx.exit(0 if report.passed else 3)
