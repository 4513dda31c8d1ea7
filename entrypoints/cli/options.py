"""Options that several commands take, grouped: what belongs together reaches a command as one value."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any, Final, TypeVar

import click
from attrs import frozen

from domain.answers import GenerationOptions
from domain.routing import OtherLimits
from entrypoints.backend import Where
from entrypoints.bootstrap import BACKENDS
from entrypoints.settings import DataFiles, Settings, Variable

Command = TypeVar("Command", bound=Callable[..., Any])
Decorator = Callable[[Any], Any]
PATH: Final = click.Path(path_type=Path)


@frozen
class Grouped:
    """Options that reach a command as one value; groups may hold groups.

    Attributes:
        into: the command's parameter for the value.
        make: makes the value out of the options' values.
        options: the options.
    """

    into: str
    make: Callable[..., Any]
    options: tuple[Any, ...]

    def __call__(self, command: Command) -> Command:
        """Add the options to a command."""
        names: list[str] = []

        @wraps(command)
        def call(*args: Any, **values: Any) -> Any:
            group = {name: values.pop(name) for name in names}
            return command(*args, **{self.into: self.make(**group)}, **values)

        decorated: Any = call
        for option in reversed(self.options):
            before = len(getattr(decorated, "__click_params__", ()))
            decorated = option(decorated)
            added = decorated.__click_params__[before:]
            names += [option.into] if isinstance(option, Grouped) else [str(each.name) for each in added]
        return decorated  # type: ignore[no-any-return]


def grouped(into: str, make: Callable[..., Any], *options: Any) -> Grouped:
    """Return options that give a command ``make(…)`` of their values as its parameter `into`."""
    return Grouped(into, make, options)


def _router_file(ctx: click.Context, param: click.Parameter, value: Path | None) -> Path | None:
    """Return the router to read: ``ROUTER_OUT`` may name the torch file for others; the router lies beside it."""
    source = ctx.get_parameter_source(str(param.name))
    beside = value is not None and value.suffix == ".pt" and source is click.core.ParameterSource.ENVIRONMENT
    return value.with_suffix(".safetensors") if value is not None and beside else value


def _unless_folder(ctx: click.Context, param: click.Parameter, value: Path | None) -> Path | None:
    """Return a file of rows, but not when ``--dataset-dir`` names a folder in a place that goes before the file's."""
    folder, file = (ctx.get_parameter_source(name) for name in ("dataset_dir", str(param.name)))
    return value if folder is None or file is None or folder >= file else None


router_option: Final[Decorator] = click.option(
    "--router",
    type=PATH,
    metavar="PATH",
    envvar=Variable.ROUTER,
    show_envvar=True,
    show_default="router-head.safetensors",
    callback=_router_file,
    help="File, folder, or hf://OWNER/NAME.",
)


def base_model_option(default: str) -> Decorator:
    """Return ``--base-model``; `default` says in words what is taken without it."""
    return click.option(
        "--base-model",
        metavar="ID",
        envvar=Variable.BASE_MODEL,
        show_envvar=True,
        show_default=default,
        help="Hub id or folder.",
    )


_DATASET: Final = click.option("--dataset-dir", type=PATH, metavar="DIR", help="Data set folder.")


def _rows(flag: str, variable: Variable, what: str) -> Decorator:
    return click.option(
        flag,
        type=PATH,
        metavar="FILE",
        envvar=variable,
        show_envvar=True,
        callback=_unless_folder,
        help=f"{what}; goes before --dataset-dir.",
    )


training_data_options: Final = grouped(
    "data",
    DataFiles,
    _DATASET,
    _rows("--data-path", Variable.TRAIN_DATA, "Training rows"),
    _rows("--eval-data-path", Variable.VAL_DATA, "Validation rows"),
)
evaluation_data_options: Final = grouped(
    "data", DataFiles, _DATASET, _rows("--data-path", Variable.VAL_DATA, "Rows to score on")
)
generation_options: Final = grouped(
    "generation",
    GenerationOptions,
    click.option("--max-new-tokens", default=64, help="An answer ends after this many tokens at the latest."),
    click.option("--temperature", default=0.0, help="0 takes the most likely token; above 0 draws."),
    click.option("--seed", default=42, help="Seed of the draws."),
    click.option("--stop", multiple=True, help="An answer ends before this string; repeatable."),
)
limit_options: Final = grouped(
    "limits",
    OtherLimits,
    click.option(
        "--min-confidence",
        type=float,
        metavar="X",
        help="Abstain below this confidence (0 to 1).",
    ),
    click.option("--max-out-of-scope", type=float, metavar="Y", help="Abstain above this out-of-scope score."),
    click.option("--no-abstain", is_flag=True, help="Choose an adapter for every prompt: no limit applies."),
)


backend_name_option: Final[Decorator] = click.option(
    "--backend", "name", type=click.Choice(list(BACKENDS)), default="local", help="Where the work runs."
)


def backend_options(*more: Any) -> Grouped:
    """Return ``--backend`` with the options of backends elsewhere, as the parameter `where`."""
    return grouped(
        "where",
        Where,
        backend_name_option,
        click.option("--gpu", metavar="KIND", help="Kind of GPU with --backend modal, for example L4."),
        click.option(
            "--hf-secret", metavar="NAME", help="With --backend modal: secret with HF_TOKEN, for gated models."
        ),
        click.option("--hours", type=float, help="With --backend modal: time limit.  [default: 2, train: 24]"),
        click.option("--redeploy", is_flag=True, help="With --backend modal: deploy the app as it is here, first."),
        click.option(
            "--attach",
            metavar="fc-…",
            help="With --backend modal: wait for a call that this command started before, and end as it would have.",
        ),
        *more,
    )


encode_batch_option: Final[Decorator] = click.option(
    "--encode-batch", type=int, metavar="N", help="Encode at most N prompts at a time.  [default: what fits]"
)
max_batch_option: Final[Decorator] = click.option(
    "--max-batch", type=int, metavar="N", help="Answer at most N prompts at a time.  [default: what fits]"
)
shards_option: Final[Decorator] = click.option(
    "--shards", type=int, default=1, help="With --backend modal: containers that answer at the same time."
)


volume_option: Final[Decorator] = click.option(
    "--volume",
    default=Settings().data_volume,
    envvar=Variable.MODAL_DATA_VOLUME,
    show_envvar=True,
    help="Modal volume; containers look into the one that the variable names.",
)

json_option: Final[Decorator] = click.option(
    "--json", "as_json", is_flag=True, help="Print the report as one JSON object."
)
