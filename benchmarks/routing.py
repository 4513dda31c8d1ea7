"""Compare the router with its peers: ``python benchmarks/routing.py --data DIR``.

One table in one run: every system gets the same rows (see ``routing_data.py``), and all but "this router, embedded
base" the same encoder, all-MiniLM-L6-v2. Columns:

- accuracy: share of test prompts whose best route is the right one, abstention aside;
- AUROC: how well the out-of-scope score tells test prompts from prompts that belong to no route;
- ECE: expected calibration error of the confidence on the test prompts;
- train s: wall-clock seconds from texts to a router, model loading aside;
- CPU s: the processor seconds behind them, which other work on the machine disturbs less;
- ms/prompt: median milliseconds to route one prompt alone.

Every cell is the mean over the seeds (``--seeds``): a seed draws the rows and starts whatever a system draws itself.
Validation rows (a quarter as many as training rows, out of the routes' ``val.jsonl``) go to everyone; who uses
them, and for what, stands in ``routing_peers.py``. Nothing is chosen on test rows. Only ratios of times within one
run mean anything.
"""

from __future__ import annotations

import os

os.environ.setdefault("HF_HUB_OFFLINE", "1")  # before any library reads it: nothing here needs the network
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

import gc
import itertools
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import attrs
import click
import orjson
import torch

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import routing_peers as peers
from routing_data import BenchmarkData, draw
from routing_ours import ThisRouter

from domain.errors import MoeRouterError, UsageError
from domain.evaluation import GradedRow, auroc, evaluate
from domain.labels import LabelMap

SYSTEMS: dict[str, tuple[str, Callable[[int], peers.System]]] = {
    "embedded": ("this router, embedded base", lambda seed: ThisRouter(None, seed)),
    "minilm": ("this router, MiniLM", lambda seed: ThisRouter(peers.minilm_folder(), seed)),
    "semantic-router": ("semantic-router 1.1, fitted", peers.SemanticRouter),
    "setfit": ("SetFit", peers.SetFit),
    "logreg": ("logistic regression, last layer", peers.LogisticRegression),
    "finetune": ("full fine-tuning of MiniLM", peers.FullFineTuning),
}
PROMPTS_TIMED = 60
FIGURES = {"accuracy": 3, "auroc": 3, "ece": 3, "train_seconds": 1, "train_cpu_seconds": 1, "ms_per_prompt": 1}
"""The columns, in order, with the digits that each shows."""


@attrs.frozen
class Result:
    """One measurement: one system, one number of prompts, one seed; see the module's docstring for the columns.

    `threads` and `date` say how and when it was taken, for files that several runs filled.
    """

    system: str
    per_route: int
    seed: int
    threads: int
    date: str
    accuracy: float
    auroc: float
    ece: float
    train_seconds: float
    train_cpu_seconds: float
    ms_per_prompt: float


def measure(name: str, data: BenchmarkData, per_route: int, seed: int) -> Result:
    """Build, train and score one system."""
    system = SYSTEMS[name][1](seed)
    wall, cpu = time.perf_counter(), time.process_time()
    system.train(data.train, data.val)
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    texts = [row.text for row in data.test]
    inside, outside = system.score(texts), system.score(data.out_of_scope)
    figures = evaluate(
        [
            GradedRow(row.label, int(best), float(confidence))
            for row, best, confidence in zip(data.test, inside.best, inside.confidence, strict=True)
        ],
        LabelMap(data.routes),
    )
    return Result(
        system=name,
        per_route=per_route,
        seed=seed,
        threads=torch.get_num_threads(),
        date=time.strftime("%Y-%m-%d"),
        accuracy=figures.accuracy,
        auroc=auroc(inside.strangeness.tolist(), outside.strangeness.tolist()),
        ece=figures.calibration_error,
        train_seconds=wall,
        train_cpu_seconds=cpu,
        ms_per_prompt=milliseconds(system, texts[: PROMPTS_TIMED + 5]),
    )


def milliseconds(system: peers.System, texts: Sequence[str]) -> float:
    """Return the median time to route one prompt; the first five warm up."""
    taken = []
    for text in texts:
        start = time.perf_counter()
        system.route(text)
        taken.append(time.perf_counter() - start)
    return 1000 * statistics.median(taken[5:])


def table(results: Sequence[Result]) -> str:
    """Return the results as a Markdown table, each cell the mean over the seeds."""
    lines = [
        "| system | training rows per route | accuracy | out-of-scope AUROC | ECE | train s | CPU s | ms/prompt |",
        "| --- | --: | --: | --: | --: | --: | --: | --: |",
    ]
    for name in SYSTEMS:
        for count in sorted({r.per_route for r in results if r.system == name}):
            cell = [r for r in results if (r.system, r.per_route) == (name, count)]
            mean = {figure: statistics.mean(getattr(r, figure) for r in cell) for figure in FIGURES}
            figures = " | ".join(f"{value:.{FIGURES[figure]}f}" for figure, value in mean.items())
            lines.append(f"| {SYSTEMS[name][0]} | {count} | {figures} |")
    return "\n".join(lines)


def footer(results: Sequence[Result], test_per_route: int, out_of_scope: int) -> str:
    """Return what the table rests on: rows, seeds, threads and days."""

    def listed(values: set[Any]) -> str:
        return ", ".join(map(str, sorted(values)))

    return (
        f"{test_per_route} test prompts per route, {out_of_scope} out-of-scope prompts; "
        f"seeds {listed({r.seed for r in results})}; threads {listed({r.threads for r in results})} "
        f"of {os.cpu_count()} cores; {listed({r.date for r in results})}"
    )


def _counts(_ctx: click.Context, _param: click.Parameter, value: str) -> list[int]:
    try:
        return [click.IntRange(min=4)(part) for part in value.split(",")]
    except ValueError:
        raise click.BadParameter(f"{value!r} is not a list of numbers such as 8,50,200") from None


def _seeds(_ctx: click.Context, _param: click.Parameter, value: str) -> list[int]:
    try:
        return [int(part) for part in value.split(",")]
    except ValueError:
        raise click.BadParameter(f"{value!r} is not a list of numbers such as 42,43") from None


def _rows(_ctx: click.Context, _param: click.Parameter, value: str) -> list[str]:
    names = value.split(",")
    if unknown := [name for name in names if name not in SYSTEMS]:
        raise click.BadParameter(f"unknown row {unknown[0]!r}; known: {', '.join(SYSTEMS)}")
    return names


@click.command(context_settings={"show_default": True})
@click.option("--data", required=True, type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option(
    "--per-route", default="8,50,200", callback=_counts, help="Training rows per route; validation rows come on top."
)
@click.option("--rows", default=",".join(SYSTEMS), callback=_rows, help="Which systems.")
@click.option("--test-per-route", default=100, type=click.IntRange(min=1))
@click.option("--oos", default=400, type=click.IntRange(min=1), help="Out-of-scope test prompts.")
@click.option("--seeds", default="42", callback=_seeds, help="One whole round per seed; the table shows means.")
@click.option(
    "--json",
    "json_file",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Keep the results here; a run that finds some of its rows in the file does only the others.",
)
def main(
    data: Path,
    per_route: list[int],
    rows: list[str],
    test_per_route: int,
    oos: int,
    seeds: list[int],
    json_file: Path | None,
) -> None:
    """Print the table; progress goes to stderr."""
    settings = {"test_per_route": test_per_route, "out_of_scope": oos}
    results = load(json_file, settings) if json_file else []
    for seed, count in itertools.product(seeds, per_route):
        drawn = draw(data, per_route=count, test_per_route=test_per_route, out_of_scope=oos, seed=seed)
        for name in rows:
            if any((r.system, r.per_route, r.seed) == (name, count, seed) for r in results):
                continue
            results.append(measure(name, drawn, count, seed))
            click.echo(table(results[-1:]).splitlines()[-1], err=True)
            if json_file:
                save(results, settings, json_file)
            gc.collect()
    shown = [r for r in results if r.system in rows and r.per_route in per_route and r.seed in seeds]
    click.echo(table(shown))
    click.echo(f"\n{footer(shown, test_per_route, oos)}")


def load(json_file: Path, settings: dict[str, int]) -> list[Result]:
    """Return the results that an earlier run left; raises UsageError when it ran with other settings."""
    if not json_file.exists():
        return []
    kept = orjson.loads(json_file.read_bytes())
    if kept["settings"] != settings:
        raise UsageError(f"holds results of {kept['settings']}, not {settings}", where=json_file)
    return [Result(**each) for each in kept["results"]]


def save(results: Sequence[Result], settings: dict[str, int], json_file: Path) -> None:
    """Write all results so far."""
    content = {"settings": settings, "results": [attrs.asdict(each) for each in results]}
    json_file.write_bytes(orjson.dumps(content, option=orjson.OPT_INDENT_2))


if __name__ == "__main__":
    try:
        main()
    except MoeRouterError as error:
        sys.exit(f"routing.py: {error}")
    except ModuleNotFoundError as error:
        sys.exit(f"routing.py: {error}; the peers come with: make peers (run it with .venv-peers/bin/python)")
