"""``moe-router verify``: check a routing data set."""

from __future__ import annotations

from pathlib import Path

import click

from application.datasets.verify_dataset import VerifyReport
from domain.printable import printable
from entrypoints.bootstrap import Application
from entrypoints.cli.next_step import next_step

_MARKS = {"passed": "✓", "failed": "✗", "skipped": "-"}


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
    click.echo(_as_json(report) if as_json else _as_text(report))
    if report.passed:
        next_step("train", "--dataset-dir", dataset_dir)
    ctx.exit(0 if report.passed else 3)


def _as_text(report: VerifyReport) -> str:
    width = max(len(check.name) for check in report.checks)
    lines = [f"  {_MARKS[check.outcome]} {check.name:<{width}}  {check.detail}" for check in report.checks]
    failed = sum(check.outcome == "failed" for check in report.checks)
    verdict = "✓ The data set can be trusted." if report.passed else f"✗ {failed} of {len(lines)} checks failed."
    return "\n".join([f"Verifying {printable(report.path)}", "", *lines, "", verdict])


def _as_json(report: VerifyReport) -> str:
    import orjson

    checks = [{"name": one.name, "outcome": one.outcome, "detail": one.detail} for one in report.checks]
    content = {"path": printable(report.path), "passed": report.passed, "checks": checks}
    return orjson.dumps(content, option=orjson.OPT_INDENT_2).decode()
