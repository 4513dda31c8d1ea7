"""Serving: the state of an endpoint over an upstream, or over a base model in this process."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

from attrs import evolve, mutable

from domain.errors import UsageError
from entrypoints.backend import Upstream
from entrypoints.wiring.answering import AnsweringParts

if TYPE_CHECKING:  # every command pays for what is imported here, --help included
    from starlette.types import ASGIApp

    from application.comparing.compare_adapters import CompareAdapters
    from application.ports import RouterStore, TrainedRouter
    from application.ports.serving import DecisionLog, PromptRouter
    from application.routing.route_prompts import RoutePrompts
    from application.serving.drift import MeasureDrift
    from application.serving.learn import LearnFromFeedback
    from entrypoints.serving.serving import Serving
    from entrypoints.serving.settings import ServeSettings


@mutable(slots=False)
class ServingParts(AnsweringParts):
    """Serving a router over HTTP."""

    def decision_log(self, path: Path) -> DecisionLog:
        """Return a log of decisions in a file."""
        from adapters.files.jsonl_decision_log import JsonlDecisionLog

        return JsonlDecisionLog(path)

    def measure_drift(self) -> MeasureDrift:
        """The use case that tells from a log whether the traffic has moved."""
        from adapters.files.jsonl_traffic import JsonlTrafficReader
        from application.serving.drift import MeasureDrift

        return MeasureDrift(JsonlTrafficReader(), self.datasets)

    def learn_from_feedback(self) -> LearnFromFeedback:
        """The use case that makes a larger data set out of feedback."""
        from adapters.files.jsonl_traffic import JsonlTrafficReader
        from application.serving.learn import LearnFromFeedback

        return LearnFromFeedback(JsonlTrafficReader(), self.datasets, self.clock)

    def compare_upstream(
        self, route: RoutePrompts | None, upstream: Upstream, names: Sequence[str]
    ) -> CompareAdapters:
        """The use case that measures the LoRA adapters of these names that an upstream holds."""
        from adapters.upstream.dialects import dialect
        from adapters.upstream.upstream_http import UpstreamHttp, upstream_client
        from adapters.upstream.upstream_scoring import upstream_scorer
        from application.comparing.compare_adapters import CompareAdapters

        def connect() -> UpstreamHttp:
            return UpstreamHttp(upstream_client(upstream.url, key=upstream.key), answer_seconds=upstream.timeout)

        asked = dialect(upstream.kind, upstream.template, upstream.base)
        return CompareAdapters(self.datasets, upstream_scorer(connect, asked, names), self.progress, route)

    def serve_upstream(
        self,
        router: Path,
        upstream: Upstream,
        settings: ServeSettings,
        *,
        base_model: str | None = None,
        log: DecisionLog | None = None,
        inside: ASGIApp | None = None,
    ) -> Serving:
        """Return an endpoint that decides here and has an upstream answer.

        Of the base model only the blocks that the router reads are loaded. The router is loaded before this returns,
        so that what is wrong with it is an error of the caller's.

        Args:
            router: the router's file, or a trunk's folder.
            upstream: who answers.
            settings: limits and habits of the endpoint.
            base_model: the router's base model or a trunk; None takes the trunk, or the model that it was trained on.
            log: keeps decisions.
            inside: the upstream's application, when it runs in this process; its address is then a name only.
        """
        from adapters.upstream.dialects import dialect
        from adapters.upstream.upstream_answerer import UpstreamAnswerer
        from adapters.upstream.upstream_http import UpstreamHttp, upstream_client
        from entrypoints.serving.metrics import ServeMetrics
        from entrypoints.serving.serving import Serving

        asked = dialect(upstream.kind, upstream.template, upstream.base)
        metrics = ServeMetrics()
        http = UpstreamHttp(
            upstream_client(upstream.url, key=upstream.key, inside=inside),
            answer_seconds=upstream.timeout,
            count=lambda code: metrics.attempts.labels(code).inc(),
        )
        executor = ThreadPoolExecutor(1, thread_name_prefix="moe-router-routing")

        async def run(work: Callable[[], Any]) -> Any:
            return await asyncio.get_running_loop().run_in_executor(executor, work)

        def on_its_blocks(trained: TrainedRouter) -> RoutePrompts:
            return self.route_prompts(trained, base_model=self.read_with(router, base_model))

        loader = _RouterLoader(self.routers, router, on_its_blocks, run, metrics.batch_size.observe)
        loader.load_now()
        answerer = UpstreamAnswerer(http, asked, metrics.mismatches.inc)
        return Serving(settings, answerer, loader, metrics, log, watched=router)

    def serve_embedded(
        self,
        router: Path,
        folders: Mapping[str, Path],
        settings: ServeSettings,
        *,
        base_model: str | None = None,
        max_batch: int = 16,
        max_tokens: int = 512,
        log: DecisionLog | None = None,
    ) -> Serving:
        """Return an endpoint that decides and answers with one base model in this process.

        Of `folders` (LoRA adapters by name) those are loaded that the router or the fallback may ask for. Those that
        the check refuses are not offered. Raises UsageError when there is none of the router's at all.
        """
        trained = self.routers.load(router)  # a wrong name is told of before seconds of imports
        labels = trained.card.labels
        if not any(name in labels for name in folders):
            known, given = ", ".join(labels.names), ", ".join(folders) or "none"
            raise UsageError(f"none of the LoRA adapters is one of the router's: {given}", hint=f"it knows {known}")
        from adapters.lora.embedded_answerer import EmbeddedAnswerer
        from adapters.lora.peft_streaming import PeftStreamingEngine
        from domain.answers import GenerationOptions
        from entrypoints.serving.metrics import ServeMetrics
        from entrypoints.serving.serving import Serving

        wanted = {*labels.names, settings.fallback.adapter}
        base = self.router_base(trained, base_model)
        check, engine = self.check_lora_adapters(base, {name: folders[name] for name in folders if name in wanted})
        missing = {name: "no folder was given for it" for name in labels.names if name not in folders}
        metrics = ServeMetrics()
        streaming = PeftStreamingEngine(engine, max_rows=max_batch, max_waiting=settings.max_waiting)
        metrics.queue_length.set_function(lambda: streaming.load[1])
        answerer = EmbeddedAnswerer(
            streaming,
            base.info.name.rstrip("/").rsplit("/", 1)[-1],
            {**check.refused, **missing},
            lambda request: len(engine.prepare(request, GenerationOptions(max_new_tokens=1)).ids),
            max_tokens,
            settings.timeout,
        )
        loader = _RouterLoader(
            self.routers, router, lambda one: self.route_on(one, base), streaming.run, metrics.batch_size.observe
        )
        loader.load_now()
        return Serving(settings, answerer, loader, metrics, log, watched=router, weights=check.weights)


@mutable(eq=False)
class _RouterLoader:
    """Loads the router in a file again and again; its base model only when another one is needed."""

    routers: RouterStore
    path: Path
    routing: Callable[[TrainedRouter], RoutePrompts]
    run: Callable[[Callable[[], Any]], Awaitable[Any]]
    observe: Callable[[int], None]
    first: PromptRouter | None = None
    _last: RoutePrompts | None = None

    def load_now(self) -> None:
        """Load the router at once; the next call returns it."""
        self.first = self._load()

    async def __call__(self) -> PromptRouter:
        """Return the router that lies in the file now; the one before goes on deciding meanwhile."""
        if self.first is not None:
            found, self.first = self.first, None
            return found
        return await asyncio.to_thread(self._load)

    def _load(self) -> PromptRouter:
        from adapters.router.batching_router import BatchingRouter

        router = self.routers.load(self.path)
        self._last = self._on_the_same_base(router) or self.routing(router)
        return BatchingRouter(self._last, self.run, self.observe)

    def _on_the_same_base(self, router: TrainedRouter) -> RoutePrompts | None:
        """Return routing on the base model that is loaded, if this router reads nothing else and no deeper."""
        from domain.errors import MismatchError

        last = self._last
        if last is None or router.card.features.layers[-1] > last.router.card.features.layers[-1]:
            return None
        try:
            return evolve(last, router=router)
        except MismatchError:
            return None
