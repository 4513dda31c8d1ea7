"""``moe-router drift``: what a server's log tells."""

from __future__ import annotations

from pathlib import Path

import click

from entrypoints.bootstrap import Application
from entrypoints.cli.next_step import next_step
from entrypoints.cli.options import PATH, json_option
from entrypoints.reports.printing import print_report


@click.command("drift")
@click.argument("log", type=PATH)
@click.option("--dataset-dir", type=PATH, required=True, metavar="DIR", help="The data set that the router is from.")
@json_option
@click.pass_obj
def command(app: Application, log: Path, dataset_dir: Path, as_json: bool) -> None:
    """Tell from the decision log LOG (serve --decision-log) whether the traffic has moved, and what is refused.

    Compares the older half of the log with the newer one. Words and groups of prompts need their texts
    (serve --log-prompts).
    """
    from entrypoints.reports.traffic import drift_as_text, drift_as_values

    report = app.measure_drift()(log, dataset_dir)
    print_report(report, drift_as_text, drift_as_values, as_json=as_json)
    if report.feedback:
        next_step("learn", log, "--dataset-dir", dataset_dir or "DIR")
