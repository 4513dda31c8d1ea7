"""What ``add-adapter`` and ``remove-adapter`` share: their options, and running one growth."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Final

import click
from attrs import frozen

from application.datasets.grow_dataset import GrownDataset
from domain.errors import MoeRouterError, TargetExistsError
from entrypoints.bootstrap import Application
from entrypoints.cli.next_step import next_step
from entrypoints.cli.options import base_model_option, grouped, json_option
from entrypoints.reports.growth import as_text, as_values
from entrypoints.reports.printing import print_report

_PATH = click.Path(path_type=Path)


@frozen
class Growth:
    """What the options of both commands say.

    Attributes:
        router: the router that grows.
        dataset_dir: folder of the old data set.
        output_dir: folder of the new one, or None for one beside the old.
        router_out: file of the new router, or None for one beside the old.
        base_model: hub id or folder, or None for the router's own.
        log_dir: folder for metrics, or None for none.
        out_of_scope: file of prompts that belong to no adapter, or None.
        no_cache: whether to leave the feature cache alone.
        as_json: whether to print JSON.
    """

    router: Path
    dataset_dir: Path
    output_dir: Path | None
    router_out: Path | None
    base_model: str | None
    log_dir: Path | None
    out_of_scope: Path | None
    no_cache: bool
    as_json: bool


grow_options: Final = grouped(
    "growth",
    Growth,
    click.option("--router", type=_PATH, required=True, metavar="FILE", help="The router that was trained so far."),
    click.option("--dataset-dir", type=_PATH, required=True, metavar="DIR", help="The data set it was trained on."),
    click.option(
        "--output-dir",
        type=_PATH,
        metavar="DIR",
        help="Folder of the new data set.  [default: beside the old one, with a time stamp]",
    ),
    click.option(
        "--router-out",
        type=_PATH,
        metavar="FILE",
        help="The new router.  [default: FILE-grown.safetensors; FILE-without-NAME.safetensors]",
    ),
    base_model_option("the router's own"),
    click.option("--log-dir", type=_PATH, metavar="DIR", help="TensorBoard logs; none without it."),
    click.option(
        "--out-of-scope",
        type=_PATH,
        metavar="FILE",
        help="Prompts for no adapter, to fit abstention to; a router file does not keep them.",
    ),
    click.option("--no-cache", is_flag=True, help="Encode the old prompts again."),
    json_option,
)


def grow(app: Application, growth: Growth, make_dataset: Callable[[Path | None], GrownDataset]) -> None:
    """Check the old router, make the new data set (in the folder that the maker gets), retrain, compare."""
    from application.training.grow_router import GrowRouterRequest
    from entrypoints.reports.training import TrainingLines

    target = growth.router_out or growth.router.with_name(f"{growth.router.stem}-grown.safetensors")
    taken = TargetExistsError("already exists", where=target, hint="name another file with --router-out")
    output_dir = growth.output_dir
    if target.exists():
        output_dir = _earlier_dataset(app, target, output_dir or growth.dataset_dir, taken)
    app.routers.check_target(target)
    app.datasets.read_metadata(growth.dataset_dir)  # says what is wrong with a folder that is not a data set
    use_case = app.grow_router(growth.base_model, use_cache=not growth.no_cache)
    use_case.check(growth.router, growth.dataset_dir)  # before anything slow, and before anything is written
    outside = growth.out_of_scope
    if outside is not None and str(outside) != "-" and not outside.is_fifo():  # a pipe can be read once only
        app.prompt_reader.read_prompts(outside)
    try:
        grown = make_dataset(output_dir)
    except TargetExistsError as error:
        raise (taken if target.exists() else error) from error
    if grown.reused:
        click.echo(f"note: going on with the data set {grown.path}, which an earlier run made", err=True)
    request = GrowRouterRequest(
        growth.router,
        growth.dataset_dir,
        grown,
        target,
        base_model=growth.base_model,
        log_dir=growth.log_dir,
        use_cache=not growth.no_cache,
        out_of_scope=growth.out_of_scope,
    )
    with app.interruption():
        report = use_case(request, TrainingLines(lambda line: click.echo(line, err=True)))
    print_report(report, as_text, as_values, as_json=growth.as_json)
    next_step("evaluate", "--dataset-dir", grown.path, "--router", target)


def _earlier_dataset(app: Application, router: Path, beside: Path, taken: TargetExistsError) -> Path:
    """Return the folder that a run which was cut off after training `router` made; raises `taken` where none is."""
    try:
        name = app.routers.load(router).card.dataset
    except MoeRouterError:
        raise taken from None
    folder = beside if beside.name == name else beside.parent / name
    if not folder.is_dir():
        raise taken
    return folder
