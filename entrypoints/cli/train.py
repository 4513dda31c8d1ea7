"""``moe-router train``: train a router on a routing data set."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from application.training.data_paths import DEFAULT_ROUTER
from application.training.train_router import TrainRouterRequest, resolve_job
from domain.early_stopping import EarlyStopPolicy
from domain.errors import UsageError
from domain.features import Pooling
from domain.training import TrainOptions
from domain.turns import TurnChoice
from entrypoints.bootstrap import Application
from entrypoints.cli.training_lines import TrainingLines, report_as_json
from entrypoints.modal_places import LOG_DIR, remote_environment

DEFAULT_LOG_DIR = Path("runs/tensorboard")
_PATH = click.Path(path_type=Path)


def parse_layers(_ctx: click.Context, _param: click.Parameter, value: str) -> tuple[int, ...] | None:
    """Return the layers of ``1,4,7,10`` in ascending order, or None for ``auto``; raises UsageError."""
    if value == "auto":
        return None
    try:
        return tuple(sorted({int(part) for part in value.split(",")}))
    except ValueError:
        raise UsageError(f"--layers {value!r} is neither auto nor numbers like 1,4,7,10") from None


@click.command("train")
@click.option("--dataset-dir", type=_PATH, metavar="DIR", help="Data set folder: its train.jsonl and val.jsonl.")
@click.option(
    "--data-path", type=_PATH, metavar="FILE", help="Training rows; before --dataset-dir.  [env: TRAIN_DATA]"
)
@click.option("--eval-data-path", type=_PATH, metavar="FILE", help="Validation rows, likewise.  [env: VAL_DATA]")
@click.option("--epochs", default=100, help="Most passes over the training rows.")
@click.option("--batch-size", default=8, help="Rows per step.")
@click.option("--lr", default=1e-4, help="Initial learning rate.")
@click.option("--patience", default=5, help="Evaluations without improvement before the learning rate is reduced.")
@click.option("--min-delta", default=0.001, help="Least decrease of the loss that counts as improvement.")
@click.option("--eval-steps", default=20, help="Steps between evaluations.")
@click.option("--lr-factor", default=0.5, help="Factor of one reduction of the learning rate.")
@click.option("--max-lr-reductions", default=5, help="Reductions before the run stops.")
@click.option("--min-lr", default=5e-8, help="Learning rate below which the run stops instead of reducing it.")
@click.option(
    "--base-model", metavar="ID", help="Hub id or folder; the embedded one by default.  [env: BASE_MODEL_ID]"
)
@click.option(
    "--router-out",
    type=_PATH,
    metavar="FILE",
    help=f"The router file (.safetensors or .pt).  [env: ROUTER_OUT; default: {DEFAULT_ROUTER}]",
)
@click.option(
    "--log-dir", type=_PATH, metavar="DIR", help=f"TensorBoard logs.  [env: LOG_DIR; default: {DEFAULT_LOG_DIR}]"
)
@click.option("--seed", default=42, help="Decides data order and initialisation.")
@click.option("--layers", default="auto", callback=parse_layers, help="auto, or hidden_states indices like 1,4,7,10.")
@click.option("--pooling", type=click.Choice(["auto", "mean", "last"]), default="auto", help="How tokens are pooled.")
@click.option("--head", type=click.Choice(["auto", "linear", "kernel", "mlp"]), default="auto", help="Kind of head.")
@click.option("--max-tokens", default=512, help="Cut prompts after this many tokens.")
@click.option("--target-error", default=0.02, help="Error rate that abstention is fitted to.")
@click.option("--out-of-scope", type=_PATH, metavar="FILE", help="Prompts for no adapter, to fit abstention to.")
@click.option(
    "--turn",
    type=click.Choice(list(TurnChoice)),
    help="Human turns of a chat that the rows were made of.  [default: what the data set says, else first]",
)
@click.option("--no-cache", is_flag=True, help="Neither read nor write the feature cache.")
@click.option("--backend", type=click.Choice(["local", "modal"]), default="local", help="Where to train.")
@click.option("--gpu", metavar="KIND", help="Kind of GPU with --backend modal, for example L4.")
@click.option("--hf-secret", metavar="NAME", help="With --backend modal: secret with HF_TOKEN, for gated models.")
@click.option("--encode-shards", default=1, help="With --backend modal: containers that encode prompts together.")
@click.option("--detach", is_flag=True, help="With --backend modal: leave the run to itself.")
@click.option("--json", "as_json", is_flag=True, help="Print the report as one JSON object.")
@click.pass_obj
def command(
    app: Application,
    *,
    dataset_dir: Path | None,
    data_path: Path | None,
    eval_data_path: Path | None,
    epochs: int,
    batch_size: int,
    lr: float,
    patience: int,
    min_delta: float,
    eval_steps: int,
    lr_factor: float,
    max_lr_reductions: int,
    min_lr: float,
    base_model: str | None,
    router_out: Path | None,
    log_dir: Path | None,
    seed: int,
    layers: tuple[int, ...] | None,
    pooling: str,
    head: str,
    max_tokens: int,
    target_error: float,
    out_of_scope: Path | None,
    turn: TurnChoice | None,
    no_cache: bool,
    backend: str,
    gpu: str | None,
    hf_secret: str | None,
    encode_shards: int,
    detach: bool,
    as_json: bool,
) -> None:
    """Train a router.

    Every prompt is encoded once by the frozen base model; the head is trained on these features. A run that was
    interrupted goes on when the same command is given again, and ends as if it had never stopped.
    """
    remote = {"gpu": gpu, "hf_secret": hf_secret, "encode_shards": encode_shards}
    policy = EarlyStopPolicy(patience, min_delta, lr_factor, max_lr_reductions, min_lr)
    request = TrainRouterRequest(
        options=TrainOptions(
            epochs=epochs,
            batch_size=batch_size,
            learning_rate=lr,
            eval_steps=eval_steps,
            early_stop=policy,
            seed=seed,
            layers=layers,
            pooling=None if pooling == "auto" else Pooling(pooling),
            head=head,
            target_error=target_error,
            max_tokens=max_tokens,
        ),
        dataset_dir=dataset_dir,
        data_path=data_path,
        eval_data_path=eval_data_path,
        base_model=base_model,
        router_out=router_out,
        log_dir=log_dir
        or Path(app.environment.get("LOG_DIR") or (LOG_DIR if backend == "modal" else DEFAULT_LOG_DIR)),
        out_of_scope=out_of_scope,
        use_cache=not no_cache,
        turn=turn,
    )
    if detach:
        start_detached(app, backend, request, remote, as_json=as_json)
        return
    if backend == "local":  # the trainer asks, too, but only after seconds of imports
        app.routers.check_target(resolve_job(request, app.environment, Path.is_file).router_out)
    with app.interruption():
        train = app.train_router(backend, **remote)
        report = train(request, TrainingLines(lambda line: click.echo(line, err=True)))
    if as_json:
        import orjson

        click.echo(orjson.dumps(report_as_json(report), option=orjson.OPT_INDENT_2).decode())
    else:
        click.echo(f"✅ Router head saved to {report.router_path}")
        if backend == "modal":
            click.echo(f"   Fetch it: moe-router download {report.router_path.name}")


def start_detached(
    app: Application, backend: str, request: TrainRouterRequest, remote: dict[str, Any], *, as_json: bool
) -> None:
    """Start a run on Modal, say how to follow it, and leave it to itself."""
    if backend != "modal":
        raise UsageError("--detach belongs to --backend modal")
    job = resolve_job(request, remote_environment(app.environment), is_file=lambda _path: True)
    started = app.modal_trainer(**remote).start(job)
    if as_json:
        import orjson

        click.echo(orjson.dumps({"call": started.call_id, "app": started.app_id, "router": str(job.router_out)}))
        return
    click.echo(f"Training goes on by itself: call {started.call_id}")
    click.echo(f"   Follow it:  modal app logs {started.app_id}")
    click.echo(f"   Fetch it:   moe-router download {job.router_out.name}")
