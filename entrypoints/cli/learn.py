"""``moe-router learn``: a larger data set out of feedback."""

from __future__ import annotations

from pathlib import Path

import click

from entrypoints.bootstrap import Application
from entrypoints.cli.next_step import next_step, option
from entrypoints.cli.options import PATH, json_option
from entrypoints.reports.printing import print_report
from entrypoints.version import tool_version


@click.command("learn")
@click.argument("log", type=PATH)
@click.option("--dataset-dir", type=PATH, required=True, metavar="DIR", help="The data set to add to.")
@click.option("--output-dir", type=PATH, metavar="DIR", help="The new data set.  [default: beside the old one]")
@click.option("--out-of-scope", type=PATH, metavar="FILE", help="File for prompts that belong to no adapter.")
@json_option
@click.pass_obj
def command(
    app: Application, log: Path, dataset_dir: Path, output_dir: Path | None, out_of_scope: Path | None, as_json: bool
) -> None:
    """Add the prompts that people corrected (POST /v1/feedback) to a data set, as a new one beside the old.

    LOG is a decision log with prompts (serve --decision-log FILE --log-prompts). Train on the new data set next;
    give the file of --out-of-scope to train --out-of-scope.
    """
    from entrypoints.reports.traffic import learn_as_text, learn_as_values

    app.check_writable(out_of_scope)
    report = app.learn_from_feedback()(log, dataset_dir, output_dir=output_dir, tool_version=tool_version())
    if out_of_scope is not None:
        lines = (" ".join(text.split()) + "\n" for text in report.out_of_scope)
        app.write_file(out_of_scope, "".join(lines).encode())
    print_report(report, learn_as_text, learn_as_values, as_json=as_json)
    next_step("train", "--dataset-dir", report.grown.path, *option("--out-of-scope", out_of_scope))
