"""This router in the benchmark: the use cases behind ``train`` and ``route``, out of the composition root."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from attrs import field, mutable
from routing_data import write_rows
from routing_peers import Rows, Scored

from application.ports import TrainReport
from application.routing.route_prompts import RoutePrompts, RouteRequest
from domain.routing import RoutingDecision
from domain.training import TrainOptions
from domain.training_events import TrainingEvent
from entrypoints.backend import Where
from entrypoints.bootstrap import Application
from entrypoints.settings import DataFiles, Training


@mutable(slots=False)
class LoadedApplication(Application):
    """The application with one base model that is loaded already, so that loading is not timed.

    Attributes:
        base: the base model.
        cached: whether features are read from the user's cache, in training and in routing.
    """

    base: Any = field(default=None, kw_only=True)
    cached: bool = field(default=False, kw_only=True)

    def load_base(self, name_or_path: str | None = None, **_: Any) -> Any:
        return self.base

    def feature_extractor(self, base: Any, *, max_tokens: int = 512, use_cache: bool = True) -> Any:
        return super().feature_extractor(base, max_tokens=max_tokens, use_cache=self.cached)


@lru_cache(maxsize=1)
def _loaded(base_model: str | None) -> Any:
    return Application().load_base(base_model, device="cpu")


class Silent:
    """A :class:`application.ports.TrainingObserver` that shows nothing."""

    def on_event(self, event: TrainingEvent) -> None:
        pass


class ThisRouter:
    """Trained with the command's defaults: layers, pooling and head are chosen on training and validation rows.

    Without TensorBoard logs, and without feature cache unless it is asked for: it hides what encoding costs.
    Validation rows also fit confidence and abstention.
    """

    def __init__(
        self, base_model: str | None, seed: int, *, target_error: float = 0.02, cached: bool = False
    ) -> None:
        self.base = _loaded(base_model)
        self.options = TrainOptions(seed=seed, target_error=target_error)
        self.report: TrainReport | None = None
        self.file_bytes = 0
        self._application = LoadedApplication(environment={}, base=self.base, cached=cached)
        self._route: RoutePrompts | None = None

    def train(self, train: Rows, val: Rows) -> None:
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            request = Training(
                DataFiles(None, write_rows(train, folder / "train.jsonl"), write_rows(val, folder / "val.jsonl")),
                self.options,
                router_out=folder / "router-head.safetensors",
            )
            self.report = self._application.backend(Where()).train(request, Silent())
            router = self._application.routers.load(self.report.router_path)
            self.file_bytes = self.report.router_path.stat().st_size
        self._route = self._application.route_on(router, self.base)

    def score(self, texts: Sequence[str]) -> Scored:
        decisions = self.decide(texts)
        labels = self._router.router.card.labels
        return Scored(
            np.array([labels.label_of(made.best or "") for made in decisions]),
            np.array([made.confidence for made in decisions]),
            np.array([made.out_of_scope for made in decisions]),
        )

    def route(self, text: str) -> object:
        return self.decide([text])

    @property
    def _router(self) -> RoutePrompts:
        assert self._route is not None, "train first"
        return self._route

    def decide(self, texts: Sequence[str]) -> list[RoutingDecision]:
        """Return the whole decisions, abstention included."""
        return self._router(RouteRequest(tuple(texts)))
