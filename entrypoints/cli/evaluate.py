"""``moe-router evaluate``: score a router on held-out prompts."""

from __future__ import annotations

from pathlib import Path

import click
from attrs import frozen

from application.routing.evaluate_router import EvaluateReport
from entrypoints.backend import Evaluation, Where
from entrypoints.bootstrap import Application
from entrypoints.cli.next_step import next_step, option, place
from entrypoints.cli.options import (
    PATH,
    backend_options,
    base_model_option,
    encode_batch_option,
    evaluation_data_options,
    grouped,
    json_option,
    router_option,
)
from entrypoints.reports.evaluation import as_text, as_values, errors_as_jsonl
from entrypoints.reports.printing import json_bytes, print_report
from entrypoints.settings import DataFiles


@frozen
class _Files:
    """Where the figures go, and what else is to be written."""

    output: Path
    errors: Path | None
    plots: Path | None
    page: Path | None
    log_dir: Path | None


@click.command("evaluate")
@evaluation_data_options
@router_option
@base_model_option("the router's own")
@grouped(
    "into",
    _Files,
    click.option("--output", type=PATH, default="router-eval.json", help="Where the figures go."),
    click.option("--errors", type=PATH, metavar="FILE", help="Write every wrong row here."),
    click.option("--plots", type=PATH, metavar="DIR", help="Draw PNG files into this folder."),
    click.option(
        "--report", "page", type=PATH, metavar="FILE.html", help="Write a page to send around: one file with all."
    ),
    click.option(
        "--log-dir", type=PATH, metavar="DIR", help="Write a TensorBoard run into this folder, as train does."
    ),
)
@click.option("--out-of-scope", type=PATH, metavar="FILE", help="Prompts that belong to no adapter.")
@click.option("--robustness/--no-robustness", default=True, help="Route changed prompts, too, and count the flips.")
@click.option("--no-cache", is_flag=True, help="Neither read nor write the feature cache.")
@backend_options(encode_batch_option)
@json_option
@click.pass_obj
def command(
    app: Application,
    *,
    data: DataFiles,
    router: Path | None,
    base_model: str | None,
    into: _Files,
    out_of_scope: Path | None,
    robustness: bool,
    no_cache: bool,
    where: Where,
    as_json: bool,
) -> None:
    """Score a router on held-out prompts: accuracy, calibration, abstention, robustness.

    Prompts: --data-path, else --dataset-dir, else VAL_DATA, else /datasets/routing_latest. Writes router-eval.json.
    """
    backend = app.backend(where)
    plot, run = into.plots and into.plots / "plot.png", into.log_dir and into.log_dir / "run"
    app.check_writable(into.output, into.errors, into.page, plot, run)
    request = Evaluation(
        router or backend.places.router, data, base_model, out_of_scope, robustness, use_cache=not no_cache
    )
    with app.interruption("interrupted; nothing was written", hint="run it again"):
        report = backend.evaluate(request)
    saved = _save(app, report, into)
    print_report(report, as_text, as_values, as_json=as_json, saved=saved)
    shown = option("--router", request.router, backend.places.router)
    there = place(where)
    next_step(*(("infer", *there) if there else ("route",)), *shown, "--prompt", "…")


def _save(app: Application, report: EvaluateReport, into: _Files) -> list[Path]:
    """Write what was asked for; return the files."""

    def page() -> bytes:
        from entrypoints.reports.html import evaluation_page  # its templates' package is not needed otherwise

        return evaluation_page(report, app.clock.now())

    saved = app.write_files(
        (into.output, lambda: json_bytes(as_values(report))),
        (into.errors, lambda: errors_as_jsonl(report)),
        (into.page, page),
    )
    if into.plots is not None:
        from adapters.metrics.matplotlib_evaluation_plots import plot_evaluation

        saved += plot_evaluation(report, into.plots)
    if into.log_dir is not None:
        from adapters.metrics.tensorboard_evaluation import log_evaluation

        saved.append(log_evaluation(report, into.log_dir, app.clock.now()))
    return saved
