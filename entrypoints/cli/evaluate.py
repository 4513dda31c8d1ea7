"""``moe-router evaluate``: score a router on held-out prompts."""

from __future__ import annotations

from pathlib import Path

import click

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
    json_option,
    router_option,
)
from entrypoints.reports.evaluation import as_text, as_values, errors_as_jsonl
from entrypoints.reports.printing import json_bytes, print_report
from entrypoints.settings import DataFiles


@click.command("evaluate")
@evaluation_data_options
@router_option
@base_model_option("the router's own")
@click.option("--output", type=PATH, default="router-eval.json", help="Where the figures go.")
@click.option("--errors", type=PATH, metavar="FILE", help="Write every wrong row here.")
@click.option("--out-of-scope", type=PATH, metavar="FILE", help="Prompts that belong to no adapter.")
@click.option("--plots", type=PATH, metavar="DIR", help="Draw PNG files into this folder.")
@click.option(
    "--report", "page", type=PATH, metavar="FILE.html", help="Write a page to send around: one file with all."
)
@click.option("--log-dir", type=PATH, metavar="DIR", help="Write a TensorBoard run into this folder, as train does.")
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
    output: Path,
    errors: Path | None,
    out_of_scope: Path | None,
    plots: Path | None,
    page: Path | None,
    log_dir: Path | None,
    robustness: bool,
    no_cache: bool,
    where: Where,
    as_json: bool,
) -> None:
    """Score a router on held-out prompts: accuracy, calibration, abstention, robustness.

    Prompts: --data-path, else --dataset-dir, else VAL_DATA, else /datasets/routing_latest. Writes router-eval.json.
    """
    backend = app.backend(where)
    for path in (output, errors, page, plots and plots / "plot.png", log_dir and log_dir / "run"):
        if path is not None:
            app.check_writable(path)
    request = Evaluation(
        router or backend.places.router, data, base_model, out_of_scope, robustness, use_cache=not no_cache
    )
    with app.interruption("interrupted; nothing was written", hint="run it again"):
        report = backend.evaluate(request)
    saved = _save(app, report, output, errors, plots, page, log_dir)
    print_report(report, as_text, as_values, as_json=as_json, saved=saved)
    shown = option("--router", request.router, backend.places.router)
    next_step("infer", *shown, *place(where), "--lora-dir", "LORAS", "--prompt", "…")


def _save(
    app: Application,
    report: EvaluateReport,
    output: Path,
    errors: Path | None,
    plots: Path | None,
    page: Path | None,
    log_dir: Path | None,
) -> list[Path]:
    """Write what was asked for; return the files."""
    app.write_file(output, json_bytes(as_values(report)))
    saved = [output]
    if errors is not None:
        app.write_file(errors, errors_as_jsonl(report))
        saved.append(errors)
    if plots is not None:
        from adapters.metrics.matplotlib_evaluation_plots import plot_evaluation

        saved += plot_evaluation(report, plots)
    if page is not None:
        from entrypoints.reports.html import evaluation_page

        app.write_file(page, evaluation_page(report, app.clock.now()))
        saved.append(page)
    if log_dir is not None:
        from adapters.metrics.tensorboard_evaluation import log_evaluation

        saved.append(log_evaluation(report, log_dir, app.clock.now()))
    return saved
