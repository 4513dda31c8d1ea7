"""``moe-router generate``: make a routing data set."""

from __future__ import annotations

from pathlib import Path

import click

from application.datasets.generate_dataset import GenerateDataset
from application.datasets.generation import GenerateReport, GenerateRequest
from application.ports.datasets import Source
from domain.errors import InterruptedRunError, TargetExistsError, UsageError
from domain.labels import DEFAULT_LABELS, LabelMap
from domain.turns import TurnChoice
from entrypoints.bootstrap import Application
from entrypoints.reports.generated_dataset import as_text, as_values
from entrypoints.reports.printing import print_json
from entrypoints.signals import ProcessInterruption
from entrypoints.version import tool_version

MIB = 1024 * 1024


@click.command("generate")
@click.option("--calendar-dataset", metavar="PATH", help="Training JSONL of the calendar adapter (label 0).")
@click.option("--claim-window-dataset", metavar="PATH", help="Training JSONL of the claim-window adapter (label 1).")
@click.option("--provider-select-dataset", metavar="PATH", help="Training JSONL of provider-select (label 2).")
@click.option(
    "--adapter",
    "adapters",
    metavar="NAME=PATH",
    multiple=True,
    help="Any other set of adapters, once for each; labels in the order given.",
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
@click.option("--line-limit", default=16 * MIB, metavar="BYTES", help="Reject longer lines unread.")
@click.option(
    "--dataset-info",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="LLaMA-Factory's dataset_info.json: its column and tag mappings; PATH may then be a name in it.",
)
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
    line_limit: int,
    dataset_info: Path | None,
    validate: bool,
    strict: bool,
    allow_fewer: bool,
    force: bool,
    as_json: bool,
) -> None:
    """Make a balanced routing data set out of the adapters' own training data.

    PATH is a JSONL file with ShareGPT (conversations, from/value) or OpenAI-style (messages, role/content) rows,
    plain, gzip or Zstandard; "-" reads standard input.
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
    sources = make_sources(paths, dataset_info, TurnChoice(turn), line_limit)
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


def parse_adapters(values: tuple[str, ...], named: dict[str, str | None]) -> dict[str, str]:
    """Return name to path out of ``NAME=PATH`` options, in their order; shells leave ``~/`` there to us.

    Raises:
        UsageError: an option has another form, a name is bad or given twice, or the default adapters' own
            options are used as well.
    """
    if mixed := [name for name, path in named.items() if path]:
        raise UsageError(
            f"--adapter and --{mixed[0]}-dataset cannot be used together",
            hint=f"give --adapter {mixed[0]}=PATH, in the order of the labels",
        )
    pairs = [value.partition("=") for value in values]
    for name, equals, path in pairs:
        if not (name and equals and path):
            raise UsageError(f"--adapter {name + equals + path!r} is not NAME=PATH")
    LabelMap(name for name, _, _ in pairs)  # refuses bad and double names before they become keys
    return {name: str(Path(path).expanduser()) if path.startswith("~/") else path for name, _, path in pairs}


def default_adapters(named: dict[str, str | None], test: bool) -> dict[str, str]:
    """Return the default adapters' paths; with `test`, packaged samples stand in for those not given.

    Raises:
        UsageError: a path is missing.
    """
    if test:
        from adapters.sample_sources import sample_source

        return {name: path or str(sample_source(name)) for name, path in named.items()}
    if missing := [name for name, path in named.items() if not path]:
        options = ", ".join(f"--{name}-dataset" for name in missing)
        raise UsageError(f"missing {options}", hint="or --adapter NAME=PATH for other adapters, or --test to try it")
    return {name: path for name, path in named.items() if path}


def make_sources(paths: dict[str, str], dataset_info: Path | None, turn: TurnChoice, line_limit: int) -> list[Source]:
    """Return the adapters' sources; with a ``dataset_info.json``, in the formats that it describes."""
    if dataset_info is None:
        return [Source(name, Path(path), turn=turn, line_limit=line_limit) for name, path in paths.items()]
    from adapters.datasets.llamafactory_dataset_info import mapped_sources, read_dataset_info

    mapped = mapped_sources(read_dataset_info(dataset_info), paths)
    return [Source(name, path, row_format, turn, line_limit) for name, (path, row_format) in mapped.items()]


def _is_default(context: click.Context, name: str) -> bool:
    return context.get_parameter_source(name) is click.core.ParameterSource.DEFAULT
