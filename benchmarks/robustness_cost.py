"""What decisions cost: ``python benchmarks/robustness_cost.py --data DIR [--beside OTHER_CHECKOUT]``.

Each system has a process of its own. They take turns, prompt by prompt, so that other work on the machine slows all
of them alike; each prompt's time is compared with the first system's for the same prompt. With ``--beside`` the
router of another checkout takes part, such as the version before a change.

Columns: seconds of training from texts to a router, model loading aside, by the clock and by the processor; size of
the router's file; median milliseconds to route one prompt alone, in brackets the middle half; and the median ratio to
the first system. Only ratios within one run mean anything.
"""

from __future__ import annotations

import random
import statistics
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import attrs
import click
import orjson

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from changed_prompts import APPENDED
from robustness import markdown
from routing_data import BenchmarkData, draw, training_rows

from domain.robustness import ended, worded

HERE = Path(__file__).resolve().parent
WARM_UP = 5
"""Prompts that are not counted."""


class Worker:
    """A system in a process of its own; see ``robustness_worker.py``."""

    def __init__(self, name: str, seed: int, checkout: Path) -> None:
        self.name = name if checkout == HERE.parent else f"{name} of {checkout}"
        command = [sys.executable, HERE / "robustness_worker.py", name, str(seed), checkout]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    def ask(self, value: object) -> Any:
        """Send a value and return the answer; ends the program when the process is gone."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        try:
            self._process.stdin.write(orjson.dumps(value, option=orjson.OPT_APPEND_NEWLINE))
            self._process.stdin.flush()
        except BrokenPipeError:
            pass  # what follows tells
        if not (line := self._process.stdout.readline()):
            sys.exit(f"robustness_cost.py: {self.name} ended; see above")
        return orjson.loads(line)

    def train(self, data: BenchmarkData) -> dict[str, float]:
        """Train, and return seconds (``wall``, ``cpu``) and the size of the file (``bytes``)."""
        rows = {"train": data.train, "val": data.val}
        answer: dict[str, float] = self.ask({split: list(map(attrs.asdict, part)) for split, part in rows.items()})
        return answer

    def close(self) -> None:
        """Let the process end."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()


def times(workers: Sequence[Worker], texts: Sequence[str]) -> list[list[float]]:
    """Return each worker's milliseconds for each text; who is first rotates."""
    taken: list[list[float]] = [[] for _ in workers]
    for turn, text in enumerate(texts):
        for place in range(len(workers)):
            who = (turn + place) % len(workers)
            taken[who].append(workers[who].ask(text) / 1e6)
    return [each[WARM_UP:] for each in taken]


def of_five(text: str, rng: random.Random) -> str:
    """Return the prompt with four sentences after it that have nothing to do with it."""
    sentences = [worded([wording])("", rng).strip() for wording in APPENDED if wording.startswith("{ended} ")]
    return " ".join([ended(text), *rng.sample(sentences, 4)])


def shown(taken: Sequence[float], first: Sequence[float]) -> list[str]:
    """Return the median with the middle half, and the median ratio to the first system."""
    low, middle, high = statistics.quantiles(taken, n=4)
    ratio = statistics.median(mine / others for mine, others in zip(taken, first, strict=True))
    return [f"{middle:.1f} ({low:.1f} to {high:.1f})", f"{ratio:.2f}"]


@click.command(context_settings={"show_default": True})
@click.option("--data", required=True, type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--systems", default="semantic-router,embedded,minilm", help="Rows of routing.py.")
@click.option("--beside", type=click.Path(exists=True, file_okay=False, path_type=Path), help="Another checkout.")
@click.option("--train-samples", "samples", default=50, help="Rows per route; a fifth is for validation.")
@click.option("--prompts", default=60, type=click.IntRange(min=2), help="Prompts timed of each length.")
@click.option("--seed", default=42)
def main(data: Path, systems: str, beside: Path | None, samples: int, prompts: int, seed: int) -> None:
    """Print the table."""
    drawn = draw(
        data,
        per_route=training_rows(samples),
        val_per_route=samples - training_rows(samples),
        test_per_route=prompts,
        out_of_scope=1,
        seed=seed,
    )
    texts = [row.text for row in drawn.test][: prompts + WARM_UP]
    names = systems.split(",")
    workers = [Worker(name, seed, HERE.parent) for name in names]
    if beside is not None:
        workers += [Worker(name, seed, beside.resolve()) for name in names if name in ("embedded", "minilm")]
    trained = [worker.train(drawn) for worker in workers]  # one after the other
    rng = random.Random(seed)
    measured = [times(workers, texts), times(workers, [of_five(text, rng) for text in texts])]
    rows = [
        [
            worker.name,
            f"{cost['wall']:.1f}",
            f"{cost['cpu']:.1f}",
            f"{cost['bytes'] / 1e6:.1f}" if cost["bytes"] else "–",
            *shown(measured[0][i], measured[0][0]),
            *shown(measured[1][i], measured[1][0]),
        ]
        for i, (worker, cost) in enumerate(zip(workers, trained, strict=True))
    ]
    for worker in workers:
        worker.close()
    columns = ["system", "train s", "CPU s", "file MB", "one sentence: ms", "ratio", "five sentences: ms", "ratio"]
    click.echo(markdown(columns, rows))


if __name__ == "__main__":
    main()
