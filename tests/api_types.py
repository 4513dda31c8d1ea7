"""What a type checker knows of the door: `make check` runs mypy over this module; nothing runs it."""

from __future__ import annotations

from concurrent.futures import Future
from pathlib import Path
from typing import assert_type

from entrypoints import api


def decides() -> None:
    router = api.open_router(Path("router-head.safetensors"))
    assert_type(router.route("text"), api.RoutingDecision)
    assert_type(router.route([api.Message("user", "text")]).adapter, str | None)
    assert_type(router.route_many(["text"]), list[api.RoutingDecision])


async def answers() -> None:
    async with api.open_answering("router", loras={"calendar": "loras/calendar"}) as opened:
        assert_type(await opened.answer("text"), api.Answer)
        assert_type(opened.submit("text"), Future[api.Answer])
        await opened.answer(7)  # type: ignore[arg-type]


def makes() -> None:
    assert_type(api.generate({"calendar": "a.jsonl"}), api.GenerateReport)
    assert_type(api.train("ds", options=api.TrainOptions(epochs=1)), api.TrainReport)
    assert_type(api.evaluate("router", "ds").figures.accuracy, float)
    api.train("ds", epochs=3)  # type: ignore[call-arg]
