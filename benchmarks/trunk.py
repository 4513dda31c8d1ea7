"""A trunk against torch, and against semantic-router: the same decisions, one prompt's latency, one thread.

    OMP_NUM_THREADS=1 python benchmarks/trunk.py [--folder DIR | --minilm] [--repeats 30]

`--folder` holds ``router-head.safetensors`` and the data set ``routing`` (the folder of a `make demo`); without it a
router is trained on the packaged sample sources, with `--minilm` on semantic-router's own encoder. Times are of this
process's CPU time, the median of single prompts that come in turn to each. semantic-router is measured where it is
installed (`make peers`); its encoder is MiniLM.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

os.environ.setdefault("OMP_NUM_THREADS", "1")
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from routing_peers import SemanticRouter, minilm_folder

from adapters.sample_sources import sample_sources
from application.routing.route_prompts import RoutePrompts, RouteRequest
from domain.samples import RoutingSample
from entrypoints.api import TrainOptions, generate, train
from entrypoints.bootstrap import Application

PROMPT = "Click December 3 in the calendar and then save it"
AIM = 0.6


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    made_from = parser.add_mutually_exclusive_group()
    made_from.add_argument("--folder", type=Path)
    made_from.add_argument("--minilm", action="store_true")
    parser.add_argument("--repeats", type=int, default=30)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as made:
        measure(
            arguments.folder or trained(Path(made), minilm_folder() if arguments.minilm else None),
            Path(made) / "trunk",
            arguments.repeats,
        )


def trained(folder: Path, base_model: str | None) -> Path:
    generate(sample_sources(), folder / "routing", train_samples=100, eval_samples=60)
    options = TrainOptions(epochs=10)
    train(folder / "routing", folder / "router-head.safetensors", base_model=base_model, options=options)
    return folder


def measure(folder: Path, target: Path, repeats: int) -> None:
    app = Application(dict(os.environ))
    router = app.routers.load(folder / "router-head.safetensors")
    begun = time.perf_counter()
    proof = app.export_trunk(router, target)
    size = sum(path.stat().st_size for path in target.iterdir()) / 1e6
    print(
        f"exported in {time.perf_counter() - begun:.1f} s: {size:.0f} MB, features differ by {proof.difference:.1e}"
    )
    torch, trunk = app.route_prompts(router), app.route_prompts(router, base_model=str(target))
    for name in ("val", "eval"):
        rows = app.datasets.read_rows(folder / "routing" / f"{name}.jsonl")
        print(f"{name}: {same(torch, trunk, rows)} of {len(rows)} decisions are the same")
    ways: dict[str, Callable[[], object]] = {
        "torch": lambda: torch(RouteRequest((PROMPT,))),
        "trunk": lambda: trunk(RouteRequest((PROMPT,))),
    }
    peer = semantic_router(app, folder / "routing")
    if peer is not None:
        ways["semantic-router"] = peer
    times = timed(ways, repeats)
    for name, milliseconds in times.items():
        print(f"{name}: {milliseconds:.1f} ms of CPU time for one prompt")
    if peer is not None:
        ratio = times["trunk"] / times["semantic-router"]
        print(f"trunk / semantic-router: {ratio:.2f} (aim: at most {AIM})")


def same(one: RoutePrompts, two: RoutePrompts, rows: list[RoutingSample]) -> int:
    asked = RouteRequest(tuple(row.text for row in rows))
    return sum((a.adapter, a.reason) == (b.adapter, b.reason) for a, b in zip(one(asked), two(asked), strict=True))


def semantic_router(app: Application, dataset: Path) -> Callable[[], object] | None:
    try:
        import semantic_router  # noqa: F401
    except ModuleNotFoundError:
        print("semantic-router is not installed here: make peers, then .venv-peers/bin/python benchmarks/trunk.py")
        return None
    peer = SemanticRouter(0)
    peer.train(*(app.datasets.read_rows(dataset / f"{name}.jsonl") for name in ("train", "val")))
    return lambda: peer.route(PROMPT)


def timed(ways: dict[str, Callable[[], object]], repeats: int) -> dict[str, float]:
    """Return the median milliseconds of each, taken in turn."""
    found: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(repeats + 2):
        for name, way in ways.items():
            begun = time.process_time()
            way()
            found[name].append((time.process_time() - begun) * 1000)
    return {name: median(times[2:]) for name, times in found.items()}


if __name__ == "__main__":
    main()
