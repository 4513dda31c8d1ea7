"""What training a router costs on the embedded base, in one run: ``python benchmarks/training_speed.py --data DIR``.

DIR is shaped as ``routing_data.py`` says. Three comparisons, model loading aside in all of them:

- `train` (features, head, calibration) against one untruncated forward pass over the same prompts;
- `train` against the old trainer's loop: batches of 8, each encoded through the whole base model at every step, the
  validation rows again at every evaluation. Two epochs are run, the rest is extrapolated;
- routing one prompt against the base model's own prefill of it.

Rounds are interleaved and the best of each is taken. Only ratios within one run mean anything.
"""

from __future__ import annotations

import os

os.environ.setdefault("HF_HUB_OFFLINE", "1")  # before any library reads it: nothing here needs the network

import random
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import attrs
import click
import orjson
import torch

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from routing_data import BenchmarkData, draw
from routing_ours import ThisRouter

from adapters.base_model.transformers_base import LoadedBase
from adapters.base_model.transformers_features import TransformersFeatureExtractor
from domain.errors import MoeRouterError
from domain.features import FeatureTap, Pooling
from domain.samples import RoutingSample
from domain.training import TrainOptions

OLD_EPOCHS = 2


@attrs.frozen
class Speed:
    """What was measured; seconds are the best of all rounds.

    Attributes:
        prompts: training and validation prompts together.
        steps: steps that our training took until it stopped by itself.
        epochs: the same in epochs.
        train: seconds of our training.
        phases: its seconds by phase.
        full_pass: seconds of one untruncated forward pass over the prompts, in our own batches.
        old_epoch: seconds of one epoch of the old trainer's loop.
        route_ms: median milliseconds to route one prompt.
        prefill_ms: median milliseconds of the base model's prefill of it.
        route_share: median over the prompts of the one divided by the other.
    """

    prompts: int
    steps: int
    epochs: float
    train: float
    phases: dict[str, float]
    full_pass: float
    old_epoch: float
    route_ms: float
    prefill_ms: float
    route_share: float


def seconds(work: Callable[[], object]) -> float:
    """Return the wall-clock seconds of one call."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def old_loop(base: LoadedBase, data: BenchmarkData, options: TrainOptions) -> None:
    """Train for two epochs as the old scripts did: nothing that was encoded is kept."""
    head = torch.nn.Linear(base.info.hidden_size, len(data.routes))
    optimiser = torch.optim.AdamW(head.parameters(), lr=options.learning_rate)
    step = 0
    for epoch in range(OLD_EPOCHS):
        rows = random.Random(epoch).sample(data.train, len(data.train))
        for batch in _batches(rows, options.batch_size):
            torch.nn.functional.cross_entropy(head(_first_token(base, batch)), _labels(batch)).backward()
            optimiser.step()
            optimiser.zero_grad()
            step += 1
            if step % options.eval_steps == 0:
                with torch.no_grad():
                    for part in _batches(data.val, options.batch_size):
                        torch.nn.functional.cross_entropy(head(_first_token(base, part)), _labels(part))


def _batches(rows: Any, size: int) -> list[list[RoutingSample]]:
    return [list(rows[start : start + size]) for start in range(0, len(rows), size)]


def _labels(rows: list[RoutingSample]) -> torch.Tensor:
    return torch.tensor([row.label for row in rows])


def _first_token(base: LoadedBase, rows: list[RoutingSample]) -> torch.Tensor:
    """Encode one batch through all layers; the old trainer's pooling, (batch, hidden)."""
    inputs = base.tokenizer([row.text for row in rows], padding=True, return_tensors="pt")
    with torch.no_grad():
        output = base.text_tower(
            input_ids=inputs["input_ids"], attention_mask=inputs["attention_mask"], use_cache=False
        )
    return output.last_hidden_state[:, 0]  # type: ignore[no-any-return]


def routing(router: ThisRouter, base: LoadedBase, texts: list[str]) -> tuple[float, float, float]:
    """Return the milliseconds to route a prompt, those of its prefill, and the ratio: medians over the prompts."""

    def prefill(text: str) -> None:
        with torch.no_grad():
            base.model(**base.tokenizer(text, return_tensors="pt"), use_cache=True, logits_to_keep=1)

    for text in texts[:3]:
        router.route(text)
        prefill(text)
    ours, theirs = [], []
    for text in texts:
        ours.append(1e3 * min(seconds(lambda text=text: router.route(text)) for _ in range(3)))
        theirs.append(1e3 * min(seconds(lambda text=text: prefill(text)) for _ in range(3)))
    shares = [mine / other for mine, other in zip(ours, theirs, strict=True)]
    return statistics.median(ours), statistics.median(theirs), statistics.median(shares)


def measure(data: BenchmarkData, rounds: int, seed: int) -> Speed:
    """Run everything."""
    router = ThisRouter(None, seed)
    base, options = router.base, router.options
    prompts = [row.text for row in (*data.train, *data.val)]
    whole = [FeatureTap(base.info.n_layers, Pooling.MEAN)]
    extractor = TransformersFeatureExtractor(base)
    extractor.extract(prompts[:16], whole)
    full_pass = train = old = float("inf")
    phases: dict[str, float] = {}
    steps = 0
    for _ in range(rounds):
        full_pass = min(full_pass, seconds(lambda: extractor.extract(prompts, whole)))
        took = seconds(lambda: router.train(data.train, data.val))
        assert router.report is not None
        steps = router.report.steps
        if took < train:
            train, phases = took, router.report.seconds
        old = min(old, seconds(lambda: old_loop(base, data, options)) / OLD_EPOCHS)
    per_epoch = -(-len(data.train) // options.batch_size)
    texts = [row.text for row in data.test][:40]
    return Speed(
        len(prompts),
        steps,
        steps / per_epoch,
        train,
        phases,
        full_pass,
        old,
        *routing(router, base, texts),
    )


def lines(speed: Speed) -> list[str]:
    """Return what to print: a Markdown table with each aim beside its figure."""
    share = speed.train / speed.full_pass
    old, longest = speed.old_epoch * speed.epochs, speed.old_epoch * TrainOptions().epochs
    return [
        f"{speed.prompts} prompts, embedded base, {torch.get_num_threads()} threads of {os.cpu_count()} cores, "
        f"{time.strftime('%Y-%m-%d')}; training took {speed.steps} steps = {speed.epochs:.1f} epochs",
        "",
        "| what | seconds | ratio | aim |",
        "| --- | --: | --: | --: |",
        f"| one untruncated forward pass over the prompts | {speed.full_pass:.2f} | 1 | |",
        f"| `train`: features, head, calibration | {speed.train:.2f} | {share:.2f} × | ≤ 1.25 × |",
        *(f"| … of which {name} | {value:.2f} | | |" for name, value in speed.phases.items() if name != "loading"),
        f"| old trainer's loop, {speed.epochs:.1f} epochs | {old:.1f} | {old / speed.train:.0f} × `train` | ≥ 50 × |",
        f"| old trainer's loop, {TrainOptions().epochs} epochs (the default) | {longest:.0f} "
        f"| {longest / speed.train:.0f} × `train` | |",
        f"| prefill of one prompt | {speed.prefill_ms / 1e3:.4f} | 1 | |",
        f"| routing one prompt | {speed.route_ms / 1e3:.4f} | {speed.route_share:.2f} × | ≤ 0.4 × |",
    ]


@click.command(context_settings={"show_default": True})
@click.option("--data", required=True, type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--per-route", default=38, type=click.IntRange(min=4), help="Training prompts per route.")
@click.option("--rounds", default=2, type=click.IntRange(min=1))
@click.option("--seed", default=42)
@click.option("--json", "json_file", type=click.Path(dir_okay=False, path_type=Path), help="Also write the figures.")
def main(data: Path, per_route: int, rounds: int, seed: int, json_file: Path | None) -> None:
    """Print the figures."""
    drawn = draw(data, per_route=per_route, test_per_route=4, out_of_scope=1, seed=seed)
    speed = measure(drawn, rounds, seed)
    click.echo("\n".join(lines(speed)))
    if json_file:
        json_file.write_bytes(orjson.dumps(attrs.asdict(speed), option=orjson.OPT_INDENT_2))


if __name__ == "__main__":
    try:
        main()
    except MoeRouterError as error:
        sys.exit(f"training_speed.py: {error}")
