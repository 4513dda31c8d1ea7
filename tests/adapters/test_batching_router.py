"""Many callers, few passes: prompts that wait together are decided together, and nobody holds up the event loop."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

import pytest
from attrs import define, field

from adapters.router.batching_router import MAX_BATCH, BatchingRouter
from application.routing.route_prompts import RouteRequest
from domain.errors import DataRejectedError
from domain.routing import AbstentionThresholds


@define
class SlowRouting:
    """Stands in for RoutePrompts: takes a while, decides each prompt as itself, refuses "poison"."""

    calls: list[RouteRequest] = field(factory=list)

    def __call__(self, request: RouteRequest) -> list[Any]:
        self.calls.append(request)
        time.sleep(0.05)
        if "poison" in request.prompts:
            raise DataRejectedError("poisoned")
        return [f"{prompt} {request.nearest}" for prompt in request.prompts]


async def in_thread(work: Callable[[], Any]) -> Any:
    return await asyncio.to_thread(work)


def test_waiting_prompts_share_a_pass_and_the_loop_stays_free() -> None:
    routing, sizes = SlowRouting(), []

    async def main() -> tuple[list[Any], int]:
        router = BatchingRouter(routing, in_thread, sizes.append)  # type: ignore[arg-type]
        asked = [asyncio.ensure_future(router.route(RouteRequest((str(n),), n % 2))) for n in range(100)]
        beats = 0
        while not all(each.done() for each in asked):
            await asyncio.sleep(0.002)
            beats += 1
        return [each.result() for each in asked], beats

    found, beats = asyncio.run(main())
    assert found == [f"{n} {n % 2}" for n in range(100)]
    assert sum(sizes) == 100
    assert max(sizes) == MAX_BATCH
    assert beats > 2 * len(routing.calls)


def test_one_bad_prompt_fails_alone_and_a_cancelled_one_is_not_decided() -> None:
    routing = SlowRouting()

    async def main() -> list[Any]:
        router = BatchingRouter(routing, in_thread)  # type: ignore[arg-type]
        limits = AbstentionThresholds(0.5)
        asked = [
            asyncio.ensure_future(router.route(RouteRequest((text,), thresholds=limits)))
            for text in ("first", "poison", "gone", "last")
        ]
        await asyncio.sleep(0)
        asked[2].cancel()
        return await asyncio.gather(*asked, return_exceptions=True)

    first, poison, gone, last = asyncio.run(main())
    assert (first, last) == ("first 0", "last 0")
    assert isinstance(poison, DataRejectedError)
    assert isinstance(gone, asyncio.CancelledError)
    with pytest.raises(DataRejectedError):
        raise poison
    assert all("gone" not in call.prompts for call in routing.calls)
