"""Routing without a model: a scorer that reads what it is to say out of the prompt itself."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from attrs import evolve, frozen

from adapters.in_memory.features import InMemoryFeatureExtractor
from adapters.in_memory.routers import InMemoryRouterStore
from application.ports import TrainedRouter
from application.routing.route_prompts import RoutePrompts
from domain.features import FeatureSpec, Matrix
from domain.labels import LabelMap
from domain.router import RouterCard
from domain.routing import AbstentionThresholds, RouteScores
from domain.trade_off import TradeOff
from entrypoints.bootstrap import Application

LABELS = LabelMap(("red", "green", "blue"))
ROUTER = Path("router.safetensors")
TRADE_OFF = (
    TradeOff(0.02, 0.8, 0.5, 0.8, 0.01, 0.7, 0.02, 0.97, 0.1),
    TradeOff(0.05, 0.6, 0.5, 0.9, 0.03, 0.8, 0.04, 0.95, 0.9),
)


@frozen
class ReadingScorer:
    """A :class:`application.ports.RouterScorer` that finds an adapter's name in a prompt's pieces.

    "red" is sure (0.9), "red?" is not (0.7); a prompt without a name is taken for blue. "strange" has the
    out-of-scope score 1.
    """

    def score(
        self, router: TrainedRouter, features: Matrix, texts: Sequence[str], sizes: Sequence[int], *, nearest: int = 0
    ) -> list[RouteScores]:
        """Return the scores of prompts; see the port."""
        found, start = [], 0
        for size in sizes:
            found.append(self._read(texts[start : start + size]))
            start += size
        return found

    def _read(self, pieces: Sequence[str]) -> RouteScores:
        whole = " ".join(pieces).lower()
        names = [name for name in LABELS.names if re.search(rf"\b{name}\b", whole)]
        best = names[0] if names else "blue"
        sure = 0.7 if f"{best}?" in whole else 0.9
        rest = (1.0 - sure) / 2
        return RouteScores(
            tuple(sure if name == best else rest for name in LABELS.names),
            1.0 if "strange" in whole else 0.0,
            deciding=next((i for i, piece in enumerate(pieces) if best in piece.lower()), 0),
        )


def scored_router(**changes: Any) -> TrainedRouter:
    """Return a router that answers from confidence 0.8 on and up to the out-of-scope score 0.5."""
    spec = FeatureSpec(InMemoryFeatureExtractor().base, (1,))
    card = RouterCard(
        labels=LABELS,
        features=spec,
        head="linear",
        temperature=1.0,
        thresholds=AbstentionThresholds(0.8, 0.5),
        target_error=0.02,
        seed=42,
        n_train=30,
        n_val=15,
        n_out_of_scope=0,
        val_accuracy=0.9,
        dataset="routing",
        dataset_sha256="d" * 64,
        created_at="2025-11-24T12:34:56+00:00",
        tool_version="0.1.0",
        trade_off=TRADE_OFF,
    )
    return TrainedRouter(evolve(card, **changes), {"head.bias": np.zeros(4, np.float32)}, ())


def scored_route(router: TrainedRouter | None = None) -> RoutePrompts:
    """Return routing that reads decisions out of prompts."""
    return RoutePrompts(router or scored_router(), InMemoryFeatureExtractor(), ReadingScorer())


class ScoredApplication(Application):
    """The composition root with that router, without files and models for it."""

    @property
    def routers(self) -> Any:
        """A store with the one router."""
        store = InMemoryRouterStore()
        store.save(scored_router(), ROUTER)
        return store

    def route_prompts(self, router: TrainedRouter, **_: Any) -> RoutePrompts:
        """Route without a model."""
        return scored_route(router)
