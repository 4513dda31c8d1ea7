"""``moe-router inspect``: look into a routing data set."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import click

from application.datasets.inspect_dataset import AdapterTexts, InspectReport
from domain.printable import printable
from domain.text_statistics import PERCENTILES
from entrypoints.bootstrap import Application
from entrypoints.cli.next_step import next_step


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
    if page is not None:
        app.check_writable(page)
    report = app.inspect_dataset()(dataset_dir, n_words=n_words, n_pairs=n_pairs, threshold=threshold)
    if plots is not None:
        from adapters.datasets.matplotlib_dataset_plots import plot_dataset

        plot_dataset(report, plots)
    if page is not None:
        from entrypoints.reports.html import dataset_page

        app.write_file(page, dataset_page(report, app.clock.now()))
    click.echo(_as_json(report) if as_json else "\n".join(_as_text(report)))
    for what, path in (("plots", plots), ("the report", page)):
        if path is not None:
            click.echo(f"Saved {what} to {printable(path)}", err=True)
    next_step("train", "--dataset-dir", dataset_dir)


def _as_text(report: InspectReport) -> Iterator[str]:
    width = max(len(adapter.name) for adapter in report.adapters)
    yield f"Data set {printable(report.path)}"
    yield from ("", "Rows and characters per prompt:")
    heads = "".join(f"{'max' if one == 100 else f'p{one}':>7}" for one in PERCENTILES)
    yield f"  {'adapter':<{width}}  {'train':>6} {'val':>6} {'eval':>6}  {heads}"
    for adapter in report.adapters:
        yield f"  {adapter.name:<{width}}  {_counts(adapter)}  {_percentiles(adapter)}"
    yield from ("", "Telling words (texts with the word):")
    for adapter in report.adapters:
        yield f"  {adapter.name:<{width}}  " + ", ".join(f"{one.word} ({one.count})" for one in adapter.telling)
    yield from ("", f"Near-duplicates across adapters (similarity ≥ {report.threshold:g}):")
    for (one, other), count in report.n_near_duplicates.items():
        yield f"  {one} / {other}: {count} pairs"
    for pair in report.near_duplicates:
        yield f"  {pair.similarity:.2f}  {pair.first.adapter}: {_short(pair.first.text)}"
        yield f"        {pair.second.adapter}: {_short(pair.second.text)}"


def _counts(adapter: AdapterTexts) -> str:
    counts = {str(split): count for split, count in adapter.counts.items()}
    return " ".join(f"{counts.get(split, 0):>6}" for split in ("train", "val", "eval"))


def _percentiles(adapter: AdapterTexts) -> str:
    return "".join(f"{adapter.characters.get(one, 0):>7}" for one in PERCENTILES)


def _short(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= 90 else f"{line[:89]}…"


def _as_json(report: InspectReport) -> str:
    import orjson

    adapters = {
        one.name: {
            "samples": {str(split): count for split, count in one.counts.items()},
            "characters": {f"p{percent}": value for percent, value in one.characters.items()},
            "words": {f"p{percent}": value for percent, value in one.words.items()},
            "telling_words": [{"word": w.word, "z_score": w.z_score, "texts": w.count} for w in one.telling],
        }
        for one in report.adapters
    }
    pairs = [
        {
            "similarity": pair.similarity,
            "adapters": [pair.first.adapter, pair.second.adapter],
            "texts": [pair.first.text, pair.second.text],
            "source_ids": [pair.first.source_id, pair.second.source_id],
        }
        for pair in report.near_duplicates
    ]
    counts = [{"adapters": list(names), "pairs": count} for names, count in report.n_near_duplicates.items()]
    content = {
        "path": printable(report.path),
        "adapters": adapters,
        "threshold": report.threshold,
        "near_duplicate_counts": counts,
        "near_duplicates": pairs,
    }
    return orjson.dumps(content, option=orjson.OPT_INDENT_2).decode()
