"""Clients for the serving benchmarks: so many at a time, or so many a second, with what each of them met."""

from __future__ import annotations

import asyncio
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from statistics import quantiles
from typing import Any

import httpx2
from attrs import field, frozen

ROOT = Path(__file__).resolve().parent.parent
PROMPTS = (
    "Click December 3 in the calendar",
    "Scroll down in the claim window and show the next claim",
    "Choose Dr. Miller in the provider dropdown",
    "What is the capital of France?",
)


@frozen
class Outcome:
    """One request: its status (0 for none), seconds to the first token and to the end, and when it was sent."""

    status: int
    first: float
    whole: float
    sent: float = field(factory=time.perf_counter)


@contextmanager
def served(*argv: Any) -> Iterator[tuple[str, int]]:
    """Run ``moe-router serve`` on a free port; yields its address and process id once it is ready."""
    command = [sys.executable, "-m", "entrypoints", "serve", "--port", "0", *map(str, argv)]
    with tempfile.NamedTemporaryFile("w+") as told:
        process = subprocess.Popen(command, cwd=ROOT, stderr=told)
        try:
            while (found := re.search(r"serving on (http://\S+)", Path(told.name).read_text())) is None:
                if process.poll() is not None:
                    raise SystemExit(f"the server did not start: {Path(told.name).read_text()}")
                time.sleep(0.1)
            wait_ready(found[1])
            yield found[1], process.pid
        finally:
            process.terminate()
            process.wait(30)


def wait_ready(address: str, seconds: float = 120.0) -> None:
    """Wait until a server is ready; raises SystemExit with what it says when it does not become so."""
    until = time.monotonic() + seconds
    while (answer := httpx2.get(f"{address}/ready")).status_code != 200:
        if time.monotonic() > until:
            raise SystemExit(f"not ready: {answer.text}")
        time.sleep(0.2)


@asynccontextmanager
async def client(address: str) -> AsyncIterator[httpx2.AsyncClient]:
    """Open connections to a server, as many as there are clients."""
    limits = httpx2.Limits(max_connections=None)
    async with httpx2.AsyncClient(base_url=address, timeout=300.0, limits=limits) as made:
        yield made


async def streamed(http: httpx2.AsyncClient, number: int, tokens: int, model: str = "auto") -> Outcome:
    """Ask for one streamed answer; raises AssertionError when it breaks off without saying so."""
    begun, first, status = time.perf_counter(), 0.0, 0
    messages = [{"role": "user", "content": f"{PROMPTS[number % len(PROMPTS)]} ({number})"}]
    body = {"model": model, "messages": messages, "max_tokens": tokens, "stream": True}
    async with http.stream("POST", "/v1/chat/completions", json=body) as response:
        status, text = response.status_code, ""
        async for part in response.aiter_text():
            text += part
            first = first or (time.perf_counter() - begun if '"content":' in text else 0.0)
    if status == 200:
        assert "[DONE]" in text or '"error"' in text, text[-200:]
        status = 200 if "[DONE]" in text else 599
    return Outcome(status, first, time.perf_counter() - begun, begun)


async def at_once(ask: Callable[[int], Awaitable[Outcome]], clients: int, requests: int) -> list[Outcome]:
    """Have so many clients ask one request after the other, `requests` in all."""
    numbers, outcomes = iter(range(requests)), list[Outcome]()

    async def one() -> None:
        for number in numbers:
            outcomes.append(await ask(number))

    await asyncio.gather(*(one() for _ in range(clients)))
    return outcomes


async def at_rate(ask: Callable[[int], Awaitable[Outcome]], rate: float, seconds: float) -> list[Outcome]:
    """Send so many requests a second, whatever becomes of the earlier ones."""
    tasks = []
    for number in range(int(rate * seconds)):
        tasks.append(asyncio.create_task(ask(number)))
        await asyncio.sleep(1 / rate)
    return list(await asyncio.gather(*tasks))


def summary(outcomes: list[Outcome]) -> dict[str, float]:
    """Return requests a second, and milliseconds of p50 and p99, of those that were answered."""
    good = [each for each in outcomes if each.status == 200]
    if len(good) < 2:
        return dict.fromkeys(("per_second", "p50", "p99", "first_p50"), float("nan"))
    span = max(each.sent + each.whole for each in good) - min(each.sent for each in good)
    whole = quantiles([each.whole * 1000 for each in good], n=100)
    first = quantiles([each.first * 1000 for each in good], n=100)
    return {"per_second": len(good) / span, "p50": whole[49], "p99": whole[98], "first_p50": first[49]}


def resident(pid: int) -> float:
    """Return a process's resident memory in MB."""
    status = Path(f"/proc/{pid}/status").read_text()
    found = re.search(r"VmRSS:\s+(\d+) kB", status)
    assert found is not None
    return int(found[1]) / 1024
