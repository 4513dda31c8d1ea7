"""``moe-router train``: train a router on a routing data set."""

from __future__ import annotations

from pathlib import Path

import click
from attrs import evolve

from domain.abstention import DEFAULT_TARGETS
from domain.early_stopping import EarlyStopPolicy
from domain.errors import UsageError
from domain.features import Pooling
from domain.training import TrainOptions
from domain.turns import TurnChoice
from entrypoints.backend import Backend, Where
from entrypoints.bootstrap import Application
from entrypoints.cli.next_step import next_step, option, place
from entrypoints.cli.options import (
    PATH,
    backend_options,
    base_model_option,
    encode_batch_option,
    grouped,
    json_option,
    training_data_options,
)
from entrypoints.reports.printing import print_json
from entrypoints.reports.training import TrainingLines, as_values
from entrypoints.settings import HERE, DataFiles, Training, Variable


def parse_layers(_ctx: click.Context, _param: click.Parameter, value: str) -> tuple[int, ...] | None:
    """Return the layers of ``1,4,7,10`` in ascending order, or None for ``auto``; raises UsageError."""
    if value == "auto":
        return None
    try:
        return tuple(sorted({int(part) for part in value.split(",")}))
    except ValueError:
        raise UsageError(f"--layers {value!r} is neither auto nor numbers like 1,4,7,10") from None


def _pooling(_ctx: click.Context, _param: click.Parameter, value: str) -> Pooling | None:
    return None if value == "auto" else Pooling(value)


early_stop_options = grouped(
    "early_stop",
    EarlyStopPolicy,
    click.option(
        "--patience", default=5, help="Evaluations without improvement before the learning rate is reduced."
    ),
    click.option("--min-delta", default=0.001, help="Least decrease of the loss that counts as improvement."),
    click.option("--lr-factor", default=0.5, help="Factor of one reduction of the learning rate."),
    click.option("--max-lr-reductions", default=5, help="Reductions before the run stops."),
    click.option("--min-lr", default=5e-8, help="Learning rate below which the run stops instead of reducing it."),
)
train_options = grouped(
    "options",
    TrainOptions,
    click.option("--epochs", default=100, help="Most passes over the training rows."),
    click.option(
        "--batch-size",
        default=TrainOptions().batch_size,
        help="Rows per step; below the default also the most prompts that are encoded at a time.",
    ),
    click.option("--lr", "learning_rate", default=1e-4, help="Initial learning rate."),
    click.option("--eval-steps", default=20, help="Steps between evaluations."),
    early_stop_options,
    click.option("--seed", default=42, help="Decides data order and initialisation."),
    click.option(
        "--layers", default="auto", callback=parse_layers, help="auto, or hidden_states indices like 1,4,7,10."
    ),
    click.option(
        "--pooling",
        type=click.Choice(["auto", "mean", "last"]),
        default="auto",
        callback=_pooling,
        help="How tokens are pooled.",
    ),
    click.option(
        "--head", type=click.Choice(["auto", "linear", "kernel", "mlp"]), default="auto", help="Kind of head."
    ),
    click.option("--max-tokens", default=512, help="Cut prompts after this many tokens."),
    click.option(
        "--target-error",
        type=float,
        show_default="{:g}, or {:g} where that answers less than half".format(*DEFAULT_TARGETS),
        help="Error rate among the answers that abstention is fitted to.",
    ),
)


@click.command("train")
@training_data_options
@train_options
@base_model_option("the embedded one")
@click.option(
    "--router-out",
    type=PATH,
    metavar="FILE",
    envvar=Variable.ROUTER,
    show_envvar=True,
    show_default=str(HERE.router),
    help="The router file (.safetensors or .pt).",
)
@click.option(
    "--log-dir",
    type=PATH,
    metavar="DIR",
    envvar=Variable.LOG_DIR,
    show_envvar=True,
    show_default=str(HERE.log_dir),
    help="TensorBoard logs.",
)
@click.option("--out-of-scope", type=PATH, metavar="FILE", help="Prompts for no adapter, to fit abstention to.")
@click.option(
    "--turn",
    type=click.Choice(list(TurnChoice)),
    help="Human turns of a chat that the rows were made of.  [default: what the data set says, else first]",
)
@click.option("--no-verify", is_flag=True, help="Only warn when the data set fails a check of `verify`.")
@click.option("--no-cache", is_flag=True, help="Neither read nor write the feature cache.")
@backend_options(
    click.option("--encode-shards", default=1, help="With --backend modal: containers that encode prompts together."),
    encode_batch_option,
)
@click.option("--detach", is_flag=True, help="With --backend modal: leave the run to itself.")
@json_option
@click.pass_obj
def command(
    app: Application,
    *,
    data: DataFiles,
    options: TrainOptions,
    base_model: str | None,
    router_out: Path | None,
    log_dir: Path | None,
    out_of_scope: Path | None,
    turn: TurnChoice | None,
    no_verify: bool,
    no_cache: bool,
    where: Where,
    detach: bool,
    as_json: bool,
) -> None:
    """Train a router.

    Every prompt is encoded once by the frozen base model; the head is trained on these features. A run that was
    interrupted goes on when the same command is given again, and ends as if it had never stopped.
    """
    if where.encode_batch is None and options.batch_size < TrainOptions().batch_size:
        where = evolve(where, encode_batch=options.batch_size)  # whoever runs out of memory lowers this first
    backend = app.backend(where)
    request = Training(
        data=data,
        options=options,
        base_model=base_model,
        router_out=router_out,
        log_dir=log_dir or backend.places.log_dir,
        out_of_scope=out_of_scope,
        use_cache=not no_cache,
        turn=turn,
        verify=not no_verify,
    )
    if detach:
        if where.attach is not None:
            raise UsageError("--detach starts a run, --attach waits for one that was started")
        _start(backend, request, where, as_json=as_json)
        return
    with app.interruption():
        report = backend.train(request, TrainingLines(lambda line: click.echo(line, err=True)))
    if as_json:
        print_json(as_values(report))
        return
    from entrypoints.reports.trade_off import expectation

    click.echo(f"✅ Router head saved to {report.router_path}")
    click.echo(f"   {expectation(report.card)}")
    if fetch := backend.fetch_command(report.router_path):
        click.echo(f"   Fetch it: {fetch}")
    router = option("--router", report.router_path, backend.places.router)
    next_step("evaluate", *option("--dataset-dir", data.dataset_dir), *router, *place(where))


def _start(backend: Backend, request: Training, where: Where, *, as_json: bool) -> None:
    """Start a run elsewhere, say how to follow it, and leave it to itself."""
    started = backend.start(request)
    if as_json:
        print_json({"call": started.call_id, "app": started.app_id, "router": str(started.router)})
        return
    click.echo(f"Training goes on by itself: call {started.call_id}")
    click.echo(f"   Follow it:   {started.follow}")
    attach = " ".join(map(str, ("moe-router train", *place(where), "--attach", started.call_id)))
    click.echo(f"   Wait for it: {attach}")
    click.echo(f"   Fetch it:    {started.fetch}")
