"""``moe-router learn``: a larger data set out of feedback."""

from __future__ import annotations

import json
from collections.abc import Iterable
from functools import partial
from pathlib import Path

import click

from domain.errors import StorageError, UsageError
from entrypoints.bootstrap import Application
from entrypoints.cli.next_step import next_step, option
from entrypoints.cli.options import PATH, json_option
from entrypoints.reports.printing import print_report
from entrypoints.version import tool_version


@click.command("learn")
@click.argument("log", type=PATH)
@click.option("--dataset-dir", type=PATH, required=True, metavar="DIR", help="The data set to add to.")
@click.option("--output-dir", type=PATH, metavar="DIR", help="The new data set.  [default: beside the old one]")
@click.option(
    "--out-of-scope", type=PATH, metavar="FILE", help="Add the prompts that belong to no adapter to this file."
)
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
    if out_of_scope is not None and out_of_scope.suffix == ".json":
        raise UsageError("prompts cannot be added to a JSON file", where=out_of_scope, hint="name a .txt or .jsonl")
    report = app.learn_from_feedback()(log, dataset_dir, output_dir=output_dir, tool_version=tool_version())
    if out_of_scope is not None:
        app.write_file(out_of_scope, _grown(out_of_scope, report.out_of_scope))
    print_report(report, partial(learn_as_text, kept=out_of_scope), learn_as_values, as_json=as_json)
    beside = option("--router-out", "router-new.safetensors")  # the old one may be served, and is to be compared with
    next_step("train", "--dataset-dir", report.grown.path, *option("--out-of-scope", out_of_scope), *beside)


def _grown(path: Path, texts: Iterable[str]) -> bytes:
    """Return what is in the file, with the prompts that it does not have below it; raises StorageError."""
    try:
        old = path.read_bytes() if path.exists() else b""
    except OSError as error:
        raise StorageError(f"cannot read: {error.strerror or error}", where=path) from error
    form = json.dumps if path.suffix == ".jsonl" else str
    known = set(old.decode(errors="replace").splitlines())
    lines = (form(" ".join(text.split())) for text in texts)
    new = "".join(f"{line}\n" for line in dict.fromkeys(lines) if line not in known)
    return old + (b"\n" if old and not old.endswith(b"\n") else b"") + new.encode()
