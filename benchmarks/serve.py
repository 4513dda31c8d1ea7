"""`moe-router serve` under load: embedded, in front of an upstream, and beyond its capacity.

    python benchmarks/serve.py FOLDER [--clients 1 8 32] [--requests 64] [--tokens 16] [--seconds 60]
        [--upstream URL [--adapter NAME]]

FOLDER holds ``router-head.safetensors`` (a `make demo`, or what benchmarks/trunk.py trains). Three tables:

- embedded, answers of all adapters in one batch, against one answer at a time (`--max-batch 1`): the same server, the
  same base model, the same random LoRA adapters.
- in front of an upstream, against the same upstream asked directly for the right adapter: what routing adds to the
  time to the first token. Without `--upstream` (a running vLLM, whose `--adapter` is asked directly) it is a scripted
  server that needs 100 ms for a first token.
- overload: requests at twice the rate that was measured, for `--seconds`: every one is answered or refused with 429,
  and memory does not grow.

All clients share one process beside the server's, on the same cores.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
import threading
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from serve_load import Outcome, at_once, at_rate, client, resident, served, streamed, summary

from tests.serving_world import running
from tests.upstream_world import BASE, FakeVllm

FIRST_TOKEN = 0.1
AIM_SHARE = 0.10


class SlowVllm(FakeVllm):
    """Takes its time to the first token."""

    async def stream(self, body: dict[str, Any], fault: Any) -> AsyncIterator[str]:
        await asyncio.sleep(FIRST_TOKEN)
        async for event in super().stream(body, fault):
            yield event


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--clients", type=int, nargs="+", default=[1, 8, 32])
    parser.add_argument("--requests", type=int, default=64)
    parser.add_argument("--tokens", type=int, default=16)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--upstream")
    parser.add_argument("--adapter")
    arguments = parser.parse_args()
    router = arguments.folder / "router-head.safetensors"
    with tempfile.TemporaryDirectory() as made:
        loras, trunk = prepared(router, Path(made))
        rate = embedded(router, loras, arguments)
        if arguments.upstream:
            in_front(trunk, arguments.upstream, arguments.adapter, arguments)
        else:
            names = [path.name for path in loras.iterdir()]
            with running(SlowVllm(dict.fromkeys(names, BASE)).app) as url:
                in_front(trunk, url, names[0], arguments)
        overload(router, loras, rate, arguments)


def prepared(router: Path, folder: Path) -> tuple[Path, Path]:
    """Write random LoRA adapters and a trunk."""
    from inference import random_loras

    from entrypoints.bootstrap import Application

    app = Application()
    loaded = app.routers.load(router)
    random_loras(app.router_base(loaded), folder / "loras")
    app.export_trunk(loaded, folder / "trunk")
    return folder / "loras", folder / "trunk"


def load(address: str, clients: int, arguments: Any, model: str = "auto") -> list[Outcome]:
    async def run() -> list[Outcome]:
        async with client(address) as http:
            await streamed(http, 0, arguments.tokens, model)  # the first warms up
            return await at_once(
                lambda number: streamed(http, number, arguments.tokens, model), clients, arguments.requests
            )

    return asyncio.run(run())


def show(name: str, clients: int, outcomes: list[Outcome]) -> dict[str, float]:
    made, failed = summary(outcomes), Counter(each.status for each in outcomes if each.status != 200)
    print(
        f"{name:<28} {clients:>3} clients: {made['per_second']:6.2f} requests/s, p50 {made['p50']:7.0f} ms, "
        f"p99 {made['p99']:7.0f} ms, first token {made['first_p50']:7.1f} ms",
        f"failed {dict(failed)}" if failed else "",
        flush=True,
    )
    return made


def embedded(router: Path, loras: Path, arguments: Any) -> float:
    """Return the requests a second that the embedded engine answers with most clients."""
    rates: dict[str, list[float]] = {}
    for name, most in (("one at a time", 1), ("one batch over all adapters", 16)):
        with served("--router", router, "--lora-dir", loras, "--max-batch", most) as (address, _):
            rates[name] = [show(name, n, load(address, n, arguments))["per_second"] for n in arguments.clients]
    alone, together = rates.values()
    for clients, one, two in zip(arguments.clients, alone, together, strict=True):
        print(f"{clients} clients: {two / one:.2f} times as many requests a second")
    return together[-1]


def in_front(trunk: Path, url: str, adapter: str | None, arguments: Any) -> None:
    with served("--router", trunk, "--upstream", url) as (address, _):
        for clients in arguments.clients:
            direct = show("upstream asked directly", clients, load(url, clients, arguments, adapter or "auto"))
            through = show("through the router", clients, load(address, clients, arguments))
            added = through["first_p50"] - direct["first_p50"]
            print(
                f"{clients} clients: the router adds {added:.1f} ms, {added / through['first_p50']:.0%} of the time "
                f"to the first token (aim: at most {AIM_SHARE:.0%})"
            )


def overload(router: Path, loras: Path, rate: float, arguments: Any) -> None:
    argv = ("--router", router, "--lora-dir", loras, "--max-waiting", 32)
    with served(*argv) as (address, pid):

        async def run() -> list[Outcome]:
            async with client(address) as http:
                await at_once(lambda number: streamed(http, number, arguments.tokens), 16, 32)
                return await at_rate(
                    lambda number: streamed(http, number, arguments.tokens), 2 * rate, arguments.seconds
                )

        before, highest, stop = resident(pid), [0.0], threading.Event()
        watch = threading.Thread(target=lambda: _watch(pid, highest, stop))
        watch.start()
        outcomes = asyncio.run(run())
        stop.set()
        watch.join()
    told = Counter(each.status for each in outcomes)
    print(
        f"overload, {2 * rate:.1f} requests/s for {arguments.seconds:.0f} s: {len(outcomes)} sent, {dict(told)}; "
        f"memory {before:.0f} MB before, at most {highest[0]:.0f} MB"
    )
    if lost := {status for status in told if status not in (200, 429)}:
        raise SystemExit(f"requests were lost: {lost}")


def _watch(pid: int, highest: list[float], stop: threading.Event) -> None:
    while not stop.wait(0.5):
        highest[0] = max(highest[0], resident(pid))


if __name__ == "__main__":
    main()
