"""Decisions for many callers at once: prompts that wait at the same time go through the base model together."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from attrs import define, evolve, field

from application.routing.route_prompts import RoutePrompts, RouteRequest
from domain.labels import LabelMap
from domain.routing import AbstentionThresholds, RoutingDecision
from domain.turns import TurnChoice

Runner = Callable[[Callable[[], Any]], Awaitable[Any]]
"""Runs blocking work off the event loop, one piece at a time."""

MAX_BATCH = 32


@define(eq=False)
class BatchingRouter:
    """An :class:`application.ports.serving.PromptRouter` over the use case. Belongs to one event loop.

    Attributes:
        route_prompts: decides; only `run` calls it.
        run: runs it, off the event loop.
        observe: is told the size of every batch.
    """

    route_prompts: RoutePrompts
    run: Runner
    observe: Callable[[int], None] = lambda _size: None
    _waiting: list[tuple[RouteRequest, asyncio.Future[RoutingDecision]]] = field(factory=list, init=False)
    _task: asyncio.Task[None] | None = field(default=None, init=False)

    @property
    def labels(self) -> LabelMap:
        """The adapters that it knows."""
        return self.route_prompts.router.card.labels

    @property
    def thresholds(self) -> AbstentionThresholds:
        """The router's own limits."""
        return self.route_prompts.router.card.thresholds

    @property
    def turn(self) -> TurnChoice:
        """Which turns of a conversation it was trained on."""
        return self.route_prompts.router.card.turn

    @property
    def sha256(self) -> str:
        """The router's version."""
        return self.route_prompts.router.sha256 or ""

    @property
    def base_name(self) -> str:
        """The base model that it was trained on."""
        return self.route_prompts.router.card.features.base.name

    async def route(self, request: RouteRequest) -> RoutingDecision:
        """Return the decision on the request's one prompt."""
        future: asyncio.Future[RoutingDecision] = asyncio.get_running_loop().create_future()
        self._waiting.append((request, future))
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._work())
        return await future

    async def _work(self) -> None:
        while self._waiting:
            like = evolve(self._waiting[0][0], prompts=())
            batch = [each for each in self._waiting if evolve(each[0], prompts=()) == like][:MAX_BATCH]
            self._waiting = [each for each in self._waiting if not any(each is one for one in batch)]
            batch = [each for each in batch if not each[1].cancelled()]
            if batch:
                self.observe(len(batch))
                await self._decide(batch)

    async def _decide(self, batch: list[tuple[RouteRequest, asyncio.Future[RoutingDecision]]]) -> None:
        request = evolve(batch[0][0], prompts=tuple(each.prompts[0] for each, _ in batch))
        try:
            decisions = await self.run(lambda: self.route_prompts(request))
        except Exception as error:
            if len(batch) == 1:
                _give(batch[0][1], error)
            else:  # one prompt that cannot be decided must not fail its neighbours
                for one in batch:
                    await self._decide([one])
            return
        for (_, future), decision in zip(batch, decisions, strict=True):
            _give(future, decision)


def _give(future: asyncio.Future[RoutingDecision], result: RoutingDecision | Exception) -> None:
    if future.done():
        return
    if isinstance(result, Exception):
        future.set_exception(result)
    else:
        future.set_result(result)
