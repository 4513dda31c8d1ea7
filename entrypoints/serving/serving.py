"""What the endpoints share: who decides and answers at this moment, and everything that is kept of it."""

from __future__ import annotations

import asyncio
import hashlib
import secrets
from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from time import time
from typing import Any, Final

import structlog
from attrs import define, field, frozen

from application.ports.serving import Answerer, DecisionLog, PromptRouter
from application.serving.choose_answerer import Choice, ChooseAnswerer
from application.serving.sessions import Sessions
from domain.errors import MoeRouterError
from domain.stickiness import SessionDecision
from entrypoints.serving.errors import RETRY_AFTER, ApiError
from entrypoints.serving.metrics import BASE_LABEL, ServeMetrics
from entrypoints.serving.settings import AUTO, ServeSettings
from entrypoints.serving.tracing import Tracing
from entrypoints.version import tool_version

LOG_SCHEMA: Final = 1
PROOF_SECONDS: Final = 30.0
"""Pause between tries to prove adapters that are not offered."""


@frozen(eq=False)
class Current:
    """One loaded router with who decides and who answers; a request uses the same one from beginning to end.

    Attributes:
        router: decides on texts.
        choose: decides on turns.
        loaded_at: when, in seconds since 1970.
    """

    router: PromptRouter
    choose: ChooseAnswerer
    loaded_at: int


@define(eq=False)
class Serving:
    """The state of one server.

    Attributes:
        settings: limits and habits.
        answerer: answers.
        load: loads the router that lies in the router's file now, ready to decide.
        metrics: what is counted.
        log: keeps decisions; None keeps none.
        watched: the router's file, for changes.
        hash_key: the key of the prompts' hashes in the log.
        tracing: makes spans; None makes none.
        weights: hash of each LoRA adapter's weights, as far as known.
    """

    settings: ServeSettings
    answerer: Answerer
    load: Callable[[], Awaitable[PromptRouter]]
    metrics: ServeMetrics = field(factory=ServeMetrics)
    log: DecisionLog | None = None
    watched: Path | None = None
    hash_key: bytes = field(factory=lambda: secrets.token_bytes(32), repr=False)
    weights: Mapping[str, str] = field(factory=dict)
    sessions: Sessions = field(factory=Sessions)
    tracing: Tracing | None = None
    recent: deque[dict[str, Any]] = field(factory=lambda: deque(maxlen=200), init=False)
    current: Current | None = field(default=None, init=False)
    problem: str | None = field(default=None, init=False)
    waiting: int = field(default=0, init=False)
    logger: Any = field(factory=lambda: structlog.get_logger("moe-router.serve"), init=False, repr=False)
    _told: dict[str, str] = field(factory=dict, init=False)
    _reloading: asyncio.Lock = field(factory=asyncio.Lock, init=False)

    @property
    def now(self) -> Current:
        """The router that decides; raises ApiError before there is one."""
        if self.current is None:
            raise ApiError(503, "no router is loaded yet", code="not_ready", retry_after=RETRY_AFTER)
        return self.current

    async def reload(self) -> bool:
        """Load the router anew, prove the adapters and put both in place together; on a failure keep what there is.

        Returns whether the new one is in place.
        """
        async with self._reloading:
            try:
                router = await self.load()
                names = router.labels.names
                if AUTO in (*names, self.answerer.base_name):
                    raise MoeRouterError(f"the name {AUTO!r} is the router's own and cannot name a model")
            except Exception as error:
                self.problem = str(error) if isinstance(error, MoeRouterError) else repr(error)
                self.metrics.reloads.labels("failed").inc()
                self.logger.error("reload-failed", problem=self.problem)
                return False
            self.problem = await self._prove(names)
            settings = self.settings
            choose = ChooseAnswerer(
                router,
                _Offered(self.answerer),
                self.sessions,
                settings.fallback,
                settings.limits,
                settings.switch_margin,
            )
            self.current = Current(router, choose, int(time()))
            self.metrics.seed(names)
            self.metrics.describe(version=tool_version(), router=router.sha256[:12], base=self.answerer.base_name)
            self.metrics.reloads.labels("ok").inc()
            self.logger.info("loaded", router=router.sha256[:12], turn=str(router.turn))
            return True

    async def prove_again(self) -> None:
        """Try once more to prove adapters that are not offered."""
        async with self._reloading:
            if self.current is not None and self.unproved():
                self.problem = await self._prove(self.current.router.labels.names)

    async def _prove(self, names: tuple[str, ...]) -> str | None:
        """Prove the adapters; return why that could not be done, if it could not."""
        problem = None
        try:
            await self.answerer.prove(names)
        except MoeRouterError as error:
            problem = str(error)
            self.logger.error("proof-failed", problem=problem)
        for name in names:
            self.metrics.adapter_up.labels(name).set(name in self.answerer.offered)
        for name, reason in self.unproved(names).items():
            if self._told.get(name) != reason:
                self.logger.warning("not-offered", adapter=name, reason=reason)
        self._told = self.unproved(names)
        return problem

    def unproved(self, names: tuple[str, ...] | None = None) -> dict[str, str]:
        """Return the adapters of `names`, or the router's, that are not offered, with the reason."""
        if names is None:
            names = () if self.current is None else self.current.router.labels.names
        refused, offered = self.answerer.refused, self.answerer.offered
        missing = [name for name in names if name not in offered]
        return {name: refused.get(name, "it is not there") for name in missing}

    def models(self) -> dict[str, str | None]:
        """Return every model name that clients may ask for, with the adapter behind it (None: the base model)."""
        return {self.answerer.base_name: None, **{name: name for name in self.answerer.offered}}

    def account(self, choice: Choice) -> None:
        """Count a decision."""
        self.metrics.decisions.labels(choice.adapter or BASE_LABEL, choice.reason).inc()
        self.metrics.routing.observe(choice.milliseconds / 1000)
        if choice.decision is not None:
            self.metrics.confidence.observe(choice.decision.confidence)
        if choice.session is SessionDecision.SWITCH:
            self.metrics.switches.inc()

    def keep(self, choice: Choice, *, name: str, endpoint: str, status: int, tokens: dict[str, int]) -> None:
        """Keep one decision in the log and for the page; its prompt's text only where that was asked for."""
        decision, text = choice.decision, choice.text
        line: dict[str, Any] = {
            "schema": LOG_SCHEMA,
            "type": "decision",
            "time": datetime.now(UTC).isoformat(timespec="milliseconds"),
            "id": name,
            "endpoint": endpoint,
            "status": status,
            "router": choice.router,
            "prompt_hash": None if text is None else self._hash(text),
            "adapter": choice.adapter,
            "reason": str(choice.reason),
            "fallback": choice.fallback,
            "session": None if choice.session is None else str(choice.session),
            "best": None if decision is None else decision.best,
            "probabilities": None if decision is None else dict(decision.probabilities),
            "out_of_scope": None if decision is None else decision.out_of_scope,
            "max_out_of_scope": finite(choice.limits.max_out_of_scope),
            "min_confidence": choice.limits.min_confidence,
            "latency_ms": round(choice.milliseconds, 3),
            "tokens": tokens,
        }
        self.recent.append(line)
        if self.log is not None:
            before = self.log.dropped
            self.log.append({**line, "text": text} if self.settings.log_prompts else line)
            self.metrics.log_dropped.inc(self.log.dropped - before)

    def _hash(self, text: str) -> str:
        return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), key=self.hash_key, digest_size=16).hexdigest()


@frozen(eq=False)
class _Offered:
    """The adapters on offer at this moment, as a collection."""

    answerer: Answerer

    def __contains__(self, name: object) -> bool:
        return name in self.answerer.offered

    def __iter__(self) -> Any:
        return iter(self.answerer.offered)

    def __len__(self) -> int:
        return len(self.answerer.offered)


def finite(value: float) -> float | None:
    """Return a number for JSON: an absent limit is null."""
    return value if abs(value) != float("inf") else None
