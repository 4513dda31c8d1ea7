"""Does regret tell what accuracy does not, and would a router trained on measured losses choose better?

    python benchmarks/overlap.py FOLDER [--samples 100] [--draws 3]

Three LoRA adapters whose packaged data overlap: ``calendar`` and ``desk`` own half of the calendar's prompts each,
and ``desk`` half of the provider drop-down, too; ``claims`` owns the claim window. No router can tell who owns a
calendar prompt. Each is fine-tuned on the embedded base model without its held-out rows, and these are scored
under all of them, as `moe-router compare` does. In every draw half of the scored prompts trains a router (four fifths
of them, the others validate), and the other half measures its choices. What the routers are trained on:

- labels: the adapter whose data a prompt is from;
- drawn: an adapter drawn in proportion to how likely each is to give the answer;
- best: the adapter that is the likeliest to give the answer.

A second table fits the kernel head alone, on soft targets and on weights, and has no limits: who is its first choice?
Adapters are kept in FOLDER, scores and encoded prompts in the cache, so that another run takes less.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import numpy as np
from routing_data import write_rows

from adapters.router.router_heads import cosine_kernel, scaling, unit_rows
from adapters.sample_sources import sample_source
from application.comparing.compare_report import CompareReport
from application.datasets.dataset_request import GenerateRequest
from application.ports.datasets import Source
from application.routing.route_prompts import RouteRequest
from domain.bootstrap import Estimate, average, resampled_means
from domain.comparison import ScoredRow
from domain.features import FeatureTap, Pooling
from domain.samples import RoutingSample
from domain.training import TrainOptions
from entrypoints.backend import Comparison, Where
from entrypoints.bootstrap import Application
from entrypoints.settings import DataFiles, Training

NAMES = ("calendar", "claims", "desk")
TAPS = tuple(FeatureTap(layer, Pooling.MEAN) for layer in (1, 4, 7, 10))
GAMMA, PENALTY, HEAD_DRAWS = 1.0, 0.03, 20

Series = dict[str, dict[int, list[float]]]
"""By way of training and prompt: a figure in each draw that tested the prompt."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--samples", type=int, default=100, help="scored prompts per adapter")
    parser.add_argument("--draws", type=int, default=3)
    arguments = parser.parse_args()
    folder: Path = arguments.folder
    folder.mkdir(parents=True, exist_ok=True)
    app = Application(dict(os.environ))
    if not (folder / "loras").is_dir():
        finetune(app, folder, arguments.samples)
    asked = Comparison(folder / "data", lora_dir=folder / "loras", samples=arguments.samples)
    report = app.backend(Where()).compare(asked)
    assert report.names == NAMES, "losses stand in the order of the names"
    show_adapters(report)
    heads(app, report.rows)
    routers(app, report.rows, folder, arguments.draws)


def sources() -> dict[str, list[str]]:
    """Return the lines of each adapter's data: the calendar's are dealt in turn to two of them."""
    lines = {
        name: sample_source(name).read_text(encoding="utf-8").splitlines(keepends=True)
        for name in ("calendar", "claim-window", "provider-select")
    }
    shared, rest = lines["calendar"], lines["provider-select"]
    return {"calendar": shared[::2], "desk": shared[1::2] + rest[: len(rest) // 2], "claims": lines["claim-window"]}


def finetune(app: Application, folder: Path, samples: int) -> None:
    """Hold prompts out, and fine-tune the adapters on the others."""
    given = {}
    for name, lines in sources().items():
        given[name] = folder / f"{name}.jsonl"
        given[name].write_text("".join(lines), encoding="utf-8")
    app.generate_dataset()(
        GenerateRequest(
            [Source(name, path) for name, path in given.items()],
            train_samples=1,
            eval_samples=samples,
            output_dir=folder / "data",
            replace=True,
        )
    )
    held_out = {row.source_id for row in app.datasets.read_rows(folder / "data" / "eval.jsonl")}
    for name, lines in sources().items():
        kept = (line for line in lines if json.loads(line)["id"] not in held_out)
        given[name].write_text("".join(kept), encoding="utf-8")
    for name, made in app.finetune(app.load_base(None))(given, folder / "loras").items():
        print(f"{name:<9} {made.rows} rows, loss {made.first_loss:.2f} → {made.last_loss:.2f}")


def show_adapters(report: CompareReport) -> None:
    """Print who is good at whose prompts, and the findings."""
    for cell in report.adapters.cells:
        print(f"{cell.dataset:<9} answered by {cell.adapter:<9} {shown(cell.loss)}")
    own = sum(regret(row, row.adapter) for row in report.rows) / len(report.rows)
    print(f"every prompt by its own adapter: {own:.3f} behind the best choice for each")
    print(f"{len(report.adapters.elsewhere)} prompts are clearly answered better by another. {report.verdict}\n")


def ways(rows: Sequence[ScoredRow], seed: int) -> dict[str, list[int]]:
    """Return what each way takes for the prompts' labels."""
    whole = likelihoods(rows)
    own = np.array([NAMES.index(row.adapter) for row in rows])
    noise = np.random.default_rng(seed).gumbel(size=whole.shape)  # the largest sum is a draw in proportion
    found = {"labels": own, "drawn": (whole + noise).argmax(axis=1), "best": whole.argmax(axis=1)}
    return {name: [int(each) for each in labels] for name, labels in found.items()}


def likelihoods(rows: Sequence[ScoredRow]) -> np.ndarray:
    """Return the log-likelihood of each whole answer under each adapter, (n, adapters), in nats."""
    return np.array([[-loss * row.tokens for loss in row.losses[1:]] for row in rows])


def halves(rows: Sequence[ScoredRow], seed: int) -> tuple[list[int], list[int]]:
    """Return the places of half of each adapter's prompts, and of the others, each in random order."""
    rng = np.random.default_rng(seed)
    own = np.array([row.adapter for row in rows])
    order = np.concatenate([rng.permutation(np.flatnonzero(own == name)) for name in NAMES])
    return order[::2].tolist(), order[1::2].tolist()


def heads(app: Application, rows: Sequence[ScoredRow]) -> None:
    """Print what the kernel head's first choices cost, trained on soft targets or weights."""
    extractor = app.feature_extractor(app.load_base(None, max_layer=max(tap.layer for tap in TAPS)))
    features = np.asarray(extractor.extract([row.text for row in rows], TAPS))
    regrets: Series = {}
    right: Series = {}
    for seed in range(HEAD_DRAWS):
        train, test = halves(rows, seed)
        mean, scale = scaling(features[train])
        units = unit_rows((features - mean) / scale)
        kernel = cosine_kernel(units[train], units[train], GAMMA).astype(np.float64)
        for name, (targets, weights) in soft_targets([rows[place] for place in train]).items():
            dual = np.linalg.solve(kernel + np.diag(PENALTY / weights), targets)
            chosen = (cosine_kernel(units[test], units[train], GAMMA) @ dual).argmax(axis=1)
            for place, choice in zip(test, chosen, strict=True):
                regrets.setdefault(name, {}).setdefault(place, []).append(regret(rows[place], NAMES[choice]))
                right.setdefault(name, {}).setdefault(place, []).append(NAMES[choice] == rows[place].adapter)
    print(f"First choices of the kernel head, {HEAD_DRAWS} draws of halves of {len(rows)} prompts:")
    show(rows, {"accuracy": right, "regret": regrets})


def soft_targets(rows: Sequence[ScoredRow]) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Return targets (n, adapters) and weights (n,) of each way."""
    whole, even = likelihoods(rows), np.ones(len(rows))
    hard = np.eye(len(NAMES))[[NAMES.index(row.adapter) for row in rows]]
    found = {"labels": (hard, even)}
    for temperature in (1.0, 4.0, 16.0):
        soft = np.exp((whole - whole.max(axis=1, keepdims=True)) / temperature)
        found[f"soft {temperature:g}"] = (soft / soft.sum(axis=1, keepdims=True), even)
    losses = np.array([row.losses[1:] for row in rows])
    own = (losses * hard).sum(axis=1)
    ahead = np.clip((losses.sum(axis=1) - own) / (len(NAMES) - 1) - own, 0.05, None)  # of the others' mean
    others = np.where(hard > 0, np.inf, losses).min(axis=1)
    best_ahead = np.clip(others - own, 0.05, None)  # of the best other
    return found | {"weighted": (hard, ahead / ahead.mean()), "weighted 2": (hard, best_ahead / best_ahead.mean())}


def routers(app: Application, rows: Sequence[ScoredRow], folder: Path, draws: int) -> None:
    """Print what whole routers' choices cost, and their first choices where none refuses."""
    figures: dict[str, Series] = {name: {} for name in ("accuracy", "answered", "regret", "first choice's regret")}
    for seed in range(draws):
        train, test = halves(rows, seed)
        for name, labels in ways([rows[place] for place in train], seed).items():
            route = trained(app, [rows[place] for place in train], labels, folder, seed)
            for place, made in zip(test, route([rows[place].text for place in test]), strict=True):
                row = rows[place]
                for figure, value in {
                    "accuracy": made.best == row.adapter,
                    "answered": made.adapter is not None,
                    "regret": regret(row, made.adapter),
                    "first choice's regret": regret(row, made.best),
                }.items():
                    figures[figure].setdefault(name, {}).setdefault(place, []).append(float(value))
        print(f"Whole routers, {seed + 1} draws:")
        show(rows, figures)


def trained(
    app: Application, rows: Sequence[ScoredRow], labels: Sequence[int], folder: Path, seed: int
) -> Callable[[Sequence[str]], Sequence[Any]]:
    """Train a router on these labels, with layers and head fixed; return its decisions."""
    samples = [
        RoutingSample(row.text, label, NAMES[label], row.source_id) for row, label in zip(rows, labels, strict=True)
    ]
    (folder / "draw").mkdir(exist_ok=True)
    files = (
        write_rows(
            tuple(each for place, each in enumerate(samples) if (place % 5 == 4) == held), folder / "draw" / name
        )
        for held, name in ((False, "train.jsonl"), (True, "val.jsonl"))
    )
    options = TrainOptions(
        epochs=1, seed=seed, layers=tuple(tap.layer for tap in TAPS), pooling=Pooling.MEAN, head="kernel"
    )
    asked = Training(DataFiles(None, *files), options, router_out=folder / "draw" / "router.safetensors")
    router = app.routers.load(app.backend(Where()).train(asked, Silent()).router_path)
    route = app.route_prompts(router)
    return lambda texts: route(RouteRequest(tuple(texts)))


class Silent:
    """A :class:`application.ports.TrainingObserver` that shows nothing."""

    def on_event(self, event: object) -> None:
        pass


def regret(row: ScoredRow, chosen: str | None) -> float:
    """Return how far a choice lies behind the best one, the base model included, in nats per token."""
    return row.losses[0 if chosen is None else 1 + NAMES.index(chosen)] - min(row.losses)


def show(rows: Sequence[ScoredRow], figures: Mapping[str, Series]) -> None:
    """Print each way's figures, and how far it lies from labels, prompt by prompt."""
    for figure, series in figures.items():
        groups: dict[str, list[list[float]]] = {name: [[] for _ in series] for name in NAMES}
        for place in sorted(series["labels"]):
            for each, values in zip(groups[rows[place].adapter], series.values(), strict=True):
                each.append(float(np.mean(values[place])))
        means = [average(list(each)) for each in zip(*resampled_means(groups).values(), strict=True)]
        for name, mean in zip(series, means, strict=True):
            apart = "" if name == "labels" else f"   to labels {shown((mean - means[0]).estimate, '+')}"
            print(f"  {figure:<22} {name:<10} {shown(mean.estimate)}{apart}")
    print(flush=True)


def shown(one: Estimate, sign: str = "") -> str:
    return f"{one.value:{sign}.3f} [{one.low:{sign}.3f}, {one.high:{sign}.3f}]"


if __name__ == "__main__":
    main()
