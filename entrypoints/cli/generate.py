"""``moe-router generate``: make a routing data set."""

from __future__ import annotations

from pathlib import Path

import click

from application.datasets.dataset_request import GenerateReport, GenerateRequest
from application.datasets.generate_dataset import GenerateDataset
from domain.errors import InterruptedRunError, TargetExistsError, UsageError
from domain.labels import DEFAULT_LABELS, LabelMap
from domain.turns import TurnChoice
from entrypoints.bootstrap import Application
from entrypoints.cli.lora_options import pairs_only
from entrypoints.cli.next_step import next_step
from entrypoints.cli.source_options import make_sources, source_options
from entrypoints.reports.generated_dataset import as_text, as_values
from entrypoints.reports.printing import print_json
from entrypoints.signals import ProcessInterruption
from entrypoints.version import tool_version


@click.command("generate")
@click.option("--calendar-dataset", metavar="PATH", help="Training JSONL of the calendar adapter (label 0).")
@click.option("--claim-window-dataset", metavar="PATH", help="Training JSONL of the claim-window adapter (label 1).")
@click.option("--provider-select-dataset", metavar="PATH", help="Training JSONL of provider-select (label 2).")
@click.option(
    "--adapter",
    "adapters",
    metavar="NAME=PATH",
    multiple=True,
    callback=pairs_only,
    help="Any other set of adapters; labels in the order given. A name given again adds files to its source.",
)
@click.option("--prefix", default="routing", help="Name of the data set, and beginning of its folder's name.")
@click.option("--train-samples", default=100, help="Rows per adapter for training and validation together.")
@click.option("--eval-samples", default=100, help="Rows per adapter that are held out from both; 0 for none.")
@click.option("--train-val-split", default=0.8, help="Share of training, 0 to 1; the rest is for validation.")
@click.option(
    "--output-dir",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="Folder of the data set.  [default: datasets/{prefix}_{YYYYMMDD_HHMMSS}]",
)
@click.option("--seed", default=42, help="Decides what is drawn; the same seed gives the same files.")
@click.option(
    "--test", is_flag=True, help="1 sample per adapter, out of the packaged samples unless paths are given."
)
@click.option(
    "--turn",
    type=click.Choice([str(choice) for choice in TurnChoice]),
    default=str(TurnChoice.LAST),
    help="Human turns that make the routing text: the newest (with earlier ones while it is short), or another.",
)
@source_options
@click.option("--no-answers", is_flag=True, help="Keep no reference answers of the held-out rows.")
@click.option("--validate", is_flag=True, help="Parse every line and report all that cannot be used.")
@click.option("--strict", is_flag=True, help="Parse every line and stop at the first that cannot be used.")
@click.option("--allow-fewer", is_flag=True, help="When rows run out, cut all adapters to the smallest one's count.")
@click.option("--force", is_flag=True, help="Replace the data set that is at --output-dir, as a whole.")
@click.option("--json", "as_json", is_flag=True, help="Print the report as one JSON object.")
@click.pass_obj
def command(
    app: Application,
    calendar_dataset: str | None,
    claim_window_dataset: str | None,
    provider_select_dataset: str | None,
    adapters: tuple[str, ...],
    prefix: str,
    train_samples: int,
    eval_samples: int,
    train_val_split: float,
    output_dir: Path | None,
    seed: int,
    test: bool,
    turn: str,
    columns: tuple[str, ...],
    dataset_info: Path | None,
    line_limit: int,
    no_answers: bool,
    validate: bool,
    strict: bool,
    allow_fewer: bool,
    force: bool,
    as_json: bool,
) -> None:
    """Make a balanced routing data set out of the adapters' own training data.

    PATH is a file, a folder or a glob of files: JSON Lines, JSON, CSV, TSV, Parquet or Arrow, plain, gzip or
    Zstandard, with chats (ShareGPT, OpenAI), Alpaca, prompt/completion, preference or rendered rows; kind and shape
    are told by the content and printed. "-" reads standard input, hf://datasets/OWNER/NAME the hub.
    """
    context = click.get_current_context()
    if test:
        prefix = "routing_test" if _is_default(context, "prefix") else prefix
        train_samples = 1 if _is_default(context, "train_samples") else train_samples
        eval_samples = 1 if _is_default(context, "eval_samples") else eval_samples
    named = dict(
        zip(DEFAULT_LABELS.names, (calendar_dataset, claim_window_dataset, provider_select_dataset), strict=True)
    )
    paths = parse_adapters(adapters, named) if adapters else default_adapters(named, test)
    sources = make_sources(
        paths, columns=columns, dataset_info=dataset_info, line_limit=line_limit, turn=TurnChoice(turn)
    )
    request = GenerateRequest(
        sources=sources,
        prefix=prefix,
        train_samples=train_samples,
        eval_samples=eval_samples,
        train_val_split=train_val_split,
        output_dir=output_dir,
        seed=seed,
        allow_fewer=allow_fewer,
        validate=validate,
        strict=strict,
        replace=force,
        answers=not no_answers,
        tool_version=tool_version(),
    )
    if force and output_dir is None:
        raise UsageError("--force needs --output-dir", hint="without it every run gets a folder of its own")
    report = run_until_signal(app.generate_dataset(), request)
    if len(report.labels) < 2:
        click.echo(
            f"note: {report.labels.names[0]} is the only adapter; a router needs two or more to choose from",
            err=True,
        )
    if as_json:
        print_json(as_values(report))
    else:
        click.echo(as_text(report, test=test))
    next_step("verify", report.path)


def run_until_signal(use_case: GenerateDataset, request: GenerateRequest) -> GenerateReport:
    """Run the use case; SIGTERM and SIGINT end it like an error, so that nothing is left behind."""
    try:
        with ProcessInterruption()():
            return use_case(request)
    except TargetExistsError as error:
        if not error.replaceable:
            raise
        raise TargetExistsError(error.what, where=error.where, hint=f"{error.hint}, or --force") from error
    except InterruptedRunError as error:
        raise InterruptedRunError(
            "interrupted", signal_number=error.signal_number, hint="run the same command again"
        ) from error


def parse_adapters(values: tuple[str, ...], named: dict[str, str | None]) -> dict[str, list[str]]:
    """Return name to paths out of ``NAME=PATH`` options, in their order.

    Raises:
        UsageError: a name is bad, or the default adapters' own
            options are used as well.
    """
    if mixed := [name for name, path in named.items() if path]:
        raise UsageError(
            f"--adapter and --{mixed[0]}-dataset cannot be used together",
            hint=f"give --adapter {mixed[0]}=PATH, in the order of the labels",
        )
    paths: dict[str, list[str]] = {}
    for name, _, path in (value.partition("=") for value in values):
        paths.setdefault(name, []).append(path)
    LabelMap(paths)  # refuses bad names
    return paths


def default_adapters(named: dict[str, str | None], test: bool) -> dict[str, list[str]]:
    """Return the default adapters' paths; with `test`, packaged samples stand in for those not given.

    Raises:
        UsageError: a path is missing.
    """
    if test:
        from adapters.sample_sources import sample_source

        return {name: [path or str(sample_source(name))] for name, path in named.items()}
    if missing := [name for name, path in named.items() if not path]:
        options = ", ".join(f"--{name}-dataset" for name in missing)
        if len(missing) == len(named):
            hint = f"--adapter NAME=PATH for each; or {options} for these three; or --test to try it"
            raise UsageError("no adapter's training data is named", hint=hint)
        raise UsageError(f"missing {options}", hint="or --adapter NAME=PATH for other adapters")
    return {name: [path] for name, path in named.items() if path}


def _is_default(context: click.Context, name: str) -> bool:
    source = context.get_parameter_source(name)
    return source in (click.core.ParameterSource.DEFAULT, click.core.ParameterSource.DEFAULT_MAP)
