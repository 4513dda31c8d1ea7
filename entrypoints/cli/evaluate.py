"""``moe-router evaluate``: score a router on held-out prompts."""

from __future__ import annotations

from pathlib import Path

import click

from application.routing.evaluate_router import EvaluateReport, EvaluateRequest
from application.training.data_paths import evaluation_path, router_path
from entrypoints.bootstrap import Application
from entrypoints.cli.backend_options import check_backend
from entrypoints.cli.evaluate_report import errors_as_jsonl, report_as_json, report_as_text


@click.command("evaluate")
@click.option("--dataset-dir", type=click.Path(path_type=Path), metavar="DIR", help="Data set to score on.")
@click.option("--data-path", type=click.Path(path_type=Path), metavar="FILE", help="File of rows to score on.")
@click.option(
    "--router",
    type=click.Path(path_type=Path),
    metavar="PATH",
    help="File or folder.  [default: ROUTER_OUT, else router-head.safetensors]",
)
@click.option("--base-model", metavar="ID", help="Hub id or folder.  [default: BASE_MODEL_ID, else the router's own]")
@click.option("--output", type=click.Path(path_type=Path), default="router-eval.json", help="Where the figures go.")
@click.option("--errors", type=click.Path(path_type=Path), metavar="FILE", help="Write every wrong row here.")
@click.option(
    "--out-of-scope", type=click.Path(path_type=Path), metavar="FILE", help="Prompts that belong to no adapter."
)
@click.option("--plots", type=click.Path(path_type=Path), metavar="DIR", help="Draw PNG files into this folder.")
@click.option("--robustness/--no-robustness", default=True, help="Route changed prompts, too, and count the flips.")
@click.option("--no-cache", is_flag=True, help="Neither read nor write the feature cache.")
@click.option("--backend", type=click.Choice(["local", "modal"]), default="local", help="Where to evaluate.")
@click.option("--gpu", metavar="KIND", help="Kind of GPU with --backend modal, for example L4.")
@click.option("--hf-secret", metavar="NAME", help="With --backend modal: secret with HF_TOKEN, for gated models.")
@click.option("--json", "as_json", is_flag=True, help="Print the report as one JSON object.")
@click.pass_obj
def command(
    app: Application,
    dataset_dir: Path | None,
    data_path: Path | None,
    router: Path | None,
    base_model: str | None,
    output: Path,
    errors: Path | None,
    out_of_scope: Path | None,
    plots: Path | None,
    robustness: bool,
    no_cache: bool,
    backend: str,
    gpu: str | None,
    hf_secret: str | None,
    as_json: bool,
) -> None:
    """Score a router on held-out prompts: accuracy, calibration, abstention, robustness.

    Prompts: --data-path, else --dataset-dir, else VAL_DATA, else /datasets/routing_latest. Writes router-eval.json.
    """
    check_backend(backend, gpu, hf_secret)
    for path in (output, errors, plots and plots / "plot.png"):
        if path is not None:
            app.check_writable(path)
    with app.interruption("interrupted; nothing was written", hint="run it again"):
        if backend == "modal":
            from adapters.modal_cloud.modal_requests import RemoteEvaluation
            from entrypoints.modal_places import remote_base_model, remote_environment

            remote = remote_environment(app.environment)
            evaluate_there = app.modal_evaluation(gpu=gpu, hf_secret=hf_secret)
            there = router_path(router, remote)
            report = evaluate_there(
                RemoteEvaluation(
                    there,
                    dataset_dir,
                    data_path,
                    remote_base_model(base_model, app.environment),
                    out_of_scope,
                    robustness,
                    not no_cache,
                    _data_only(remote),
                )
            )
        else:
            scored = evaluation_path(data_path, dataset_dir, app.environment)
            loaded = app.routers.load(router_path(router, app.environment))
            evaluate = app.evaluate_router(loaded, base_model=base_model, use_cache=not no_cache)
            report = evaluate(EvaluateRequest(scored, out_of_scope, robustness))
    saved = _save(app, report, output, errors, plots)
    click.echo(report_as_json(report).decode() if as_json else report_as_text(report), nl=not as_json)
    for each in saved:
        click.echo(f"Saved {each}", err=True)


def _save(
    app: Application, report: EvaluateReport, output: Path, errors: Path | None, plots: Path | None
) -> list[Path]:
    """Write what was asked for; return the files."""
    app.write_file(output, report_as_json(report))
    saved = [output]
    if errors is not None:
        app.write_file(errors, errors_as_jsonl(report))
        saved.append(errors)
    if plots is not None:
        from adapters.metrics.matplotlib_evaluation_plots import plot_evaluation

        saved += plot_evaluation(report, plots)
    return saved


def _data_only(environment: dict[str, str]) -> dict[str, str]:
    return {name: value for name, value in environment.items() if name == "VAL_DATA"}
