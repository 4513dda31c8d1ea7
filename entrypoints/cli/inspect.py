"""``moe-router inspect``: look into a routing data set."""

from __future__ import annotations

from pathlib import Path

import click

from domain.printable import printable
from entrypoints.bootstrap import Application
from entrypoints.cli.next_step import next_step
from entrypoints.reports import inspection
from entrypoints.reports.printing import print_report


@click.command("inspect")
@click.argument("dataset_dir", type=click.Path(path_type=Path))
@click.option("--words", "n_words", default=8, help="Telling words per adapter.")
@click.option("--pairs", "n_pairs", default=10, help="Near-duplicate pairs to show.")
@click.option("--threshold", default=0.8, help="Least similarity of a near-duplicate pair, 0 to 1.")
@click.option("--plots", type=click.Path(path_type=Path), metavar="FILE.png", help="Draw it all as a PNG.")
@click.option(
    "--report",
    "page",
    type=click.Path(path_type=Path),
    metavar="FILE.html",
    help="Write it all as a page to send around.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the report as one JSON object.")
@click.pass_obj
def command(
    app: Application,
    dataset_dir: Path,
    n_words: int,
    n_pairs: int,
    threshold: float,
    plots: Path | None,
    page: Path | None,
    as_json: bool,
) -> None:
    """Look into a routing data set: counts, text lengths, telling words, near-duplicates across adapters."""
    app.check_writable(page)
    report = app.inspect_dataset()(dataset_dir, n_words=n_words, n_pairs=n_pairs, threshold=threshold)
    if plots is not None:
        from adapters.datasets.matplotlib_dataset_plots import plot_dataset

        plot_dataset(report, plots)
    if page is not None:
        from entrypoints.reports.html import dataset_page

        app.write_file(page, dataset_page(report, app.clock.now()))
    print_report(report, inspection.as_text, inspection.as_values, as_json=as_json)
    for what, path in (("plots", plots), ("the report", page)):
        if path is not None:
            click.echo(f"Saved {what} to {printable(path)}", err=True)
    next_step("train", "--dataset-dir", dataset_dir)
