"""A long mixed load on `moe-router serve` (`make soak`): every request is answered, and memory stays flat.

    python benchmarks/soak.py [--minutes 20] [--requests 20000] [--clients 12] [--growth 5]

A tiny random base model with three LoRA adapters, embedded; the load is chats (plain and streamed), completions,
decisions, conversations under names of their own, clients that go away in the middle, requests that are refused, and
now and then a new router file. It ends after `--minutes` or `--requests`, whichever comes first. Memory is read all
the time; the median of the last quarter may exceed that of the second quarter by `--growth` percent.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import random
import shutil
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from statistics import median
from typing import Any

import httpx2
from attrs import define, field

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from serve_load import PROMPTS, client, resident, served

from adapters.base_model.transformers_base import load_base
from adapters.base_model.transformers_features import TransformersFeatureExtractor
from adapters.router.safetensors_router_store import SafetensorsRouterStore
from tests.answering_world import small_router
from tests.lora_world import write_loras
from tests.tiny_models import tiny_model

EXPECTED = {"chat": 200, "stream": 200, "completion": 200, "route": 200, "refused": 404, "bad": 400, "left": 0}


@define
class Load:
    """What the clients do, and what they met.

    Attributes:
        http: the connections.
        router: the router's file, which is written anew now and then.
        until: when to stop, on the clock that only grows.
        most: requests after which to stop.
        met: outcomes by kind of request and status.
        memory: the server's memory in MB, in the order in which it was read.
    """

    http: httpx2.AsyncClient
    router: Path
    until: float
    most: int
    met: Counter[tuple[str, int]] = field(factory=Counter)
    memory: list[float] = field(factory=list)
    numbers: Any = field(factory=itertools.count)

    def over(self) -> bool:
        return time.monotonic() > self.until or sum(self.met.values()) >= self.most

    async def one(self) -> None:
        while not self.over():
            number = next(self.numbers)
            kind = random.Random(number).choice(list(EXPECTED))
            self.met[kind, await self.ask(kind, number)] += 1
            if number % 500 == 499:
                shutil.copyfile(self.router, self.router.with_suffix(".new"))
                self.router.with_suffix(".new").replace(self.router)

    async def ask(self, kind: str, number: int) -> int:
        prompt, tokens = f"{PROMPTS[number % 4]} {number}", 1 + number % 24
        chat = {"model": "auto", "messages": [{"role": "user", "content": prompt}], "max_tokens": tokens}
        if kind == "route":
            return (
                await self.http.post("/v1/route", json={"prompt": prompt, "session_id": f"s{number}"})
            ).status_code
        if kind == "completion":
            body = {"model": "auto", "prompt": prompt, "max_tokens": tokens}
            return (await self.http.post("/v1/completions", json=body)).status_code
        if kind in ("stream", "left"):
            return await self.stream({**chat, "stream": True}, leave=kind == "left")
        other = {"refused": {"model": "nobody"}, "bad": {"routing": {"colour": 1}}}.get(kind, {})
        body = {**chat, "routing": {"session_id": f"s{number % 5000}"}, **other}
        return (await self.http.post("/v1/chat/completions", json=body)).status_code

    async def stream(self, body: dict[str, Any], *, leave: bool) -> int:
        async with self.http.stream("POST", "/v1/chat/completions", json=body) as response:
            text = ""
            async for part in response.aiter_text():
                if leave:
                    return 0
                text += part
        return response.status_code if "[DONE]" in text else 599

    async def watch(self, pid: int) -> None:
        while not self.over():
            self.memory.append(resident(pid))
            await asyncio.sleep(0.5)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--minutes", type=float, default=20.0)
    parser.add_argument("--requests", type=int, default=20_000)
    parser.add_argument("--clients", type=int, default=12)
    parser.add_argument("--growth", type=float, default=5.0)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        router, loras = world(folder)
        argv = ("--router", router, "--lora-dir", loras, "--decision-log", folder / "log.jsonl")
        with served(*argv) as (address, pid):
            load = asyncio.run(run(address, pid, router, arguments))
    report(load, arguments.growth)


def world(folder: Path) -> tuple[Path, Path]:
    """Make a tiny base model, a router and LoRA adapters; return the router's file and the adapters' folder."""
    base = load_base(str(tiny_model(folder / "base")), cache_dir=folder, device="cpu")
    router = small_router(TransformersFeatureExtractor(base))
    write_loras(base, folder / "loras", router.card.labels.names)
    return SafetensorsRouterStore().save(router, folder / "router.safetensors"), folder / "loras"


async def run(address: str, pid: int, router: Path, arguments: Any) -> Load:
    async with client(address) as http:
        load = Load(http, router, time.monotonic() + arguments.minutes * 60, arguments.requests)
        await asyncio.gather(load.watch(pid), *(load.one() for _ in range(arguments.clients)))
    return load


def report(load: Load, growth: float) -> None:
    """Print what was met; end with an error when a request was lost or memory grew."""
    print(f"{sum(load.met.values())} requests: {dict(sorted(Counter(dict(load.met)).items()))}")
    quarter = len(load.memory) // 4
    early, late = median(load.memory[quarter : 2 * quarter]), median(load.memory[-quarter:])
    print(f"memory: {early:.0f} MB in the second quarter, {late:.0f} MB in the last ({late / early - 1:+.1%})")
    wrong = {key: count for key, count in load.met.items() if key[1] != EXPECTED[key[0]]}
    if wrong or late > early * (1 + growth / 100):
        raise SystemExit(f"unexpected answers: {wrong}" if wrong else "memory grows")


if __name__ == "__main__":
    main()
