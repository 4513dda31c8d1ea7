"""This router in the benchmark: the use cases that the commands run, over files in a temporary folder."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from routing_data import write_rows
from routing_peers import Rows, Scored

from adapters.in_memory.training import InMemoryMetricsLog
from adapters.jsonl_dataset_store import JsonlDatasetStore
from adapters.numpy_calibrator import NumpyRouterCalibrator
from adapters.numpy_probe import KernelRidgeProbe
from adapters.numpy_scorer import NumpyRouterScorer
from adapters.prompt_files import PromptFileReader
from adapters.safetensors_checkpoints import SafetensorsCheckpointStore
from adapters.safetensors_router_store import SafetensorsRouterStore
from adapters.torch_heads import TorchHeadTrainer
from application.fit_router import FitRouter
from application.ports import FeatureExtractor, TrainingObserver, TrainReport
from application.route_prompts import RoutePrompts, RouteRequest
from application.train_router import TrainRouter, TrainRouterRequest
from domain.routing import RoutingDecision
from domain.training import TrainingEvent, TrainOptions
from entrypoints.bootstrap import Application
from entrypoints.signals import ProcessInterruption


class Silent(TrainingObserver):
    def on_event(self, event: TrainingEvent) -> None:
        pass


class ThisRouter:
    """Trained with the command's defaults: layers, pooling and head are chosen on training and validation rows."""

    def __init__(self, base_model: str | None, seed: int) -> None:
        self._application = Application()
        self.base = self._application.load_base(base_model, device="cpu")
        self.options = TrainOptions(seed=seed)
        self.report: TrainReport | None = None
        self._route: RoutePrompts | None = None

    def train(self, train: Rows, val: Rows) -> None:
        with tempfile.TemporaryDirectory() as name, ProcessInterruption()() as interruption:
            folder = Path(name)
            fit = FitRouter(
                rows=JsonlDatasetStore(),
                prompts=PromptFileReader(),
                extractors=self._extractor,
                probe=KernelRidgeProbe(),
                heads=TorchHeadTrainer(),
                calibrator=NumpyRouterCalibrator(),
                routers=SafetensorsRouterStore(),
                checkpoints=SafetensorsCheckpointStore(),
                metrics=InMemoryMetricsLog(),
                interruption=interruption,
                clock=self._application.clock,
                tool_version="benchmark",
            )
            self.report = TrainRouter(fit)(
                TrainRouterRequest(
                    options=self.options,
                    data_path=write_rows(train, folder / "train.jsonl"),
                    eval_data_path=write_rows(val, folder / "val.jsonl"),
                    router_out=folder / "router-head.safetensors",
                    use_cache=False,
                ),
                Silent(),
            )
            router = SafetensorsRouterStore().load(self.report.router_path)
        self._labels = router.card.labels
        extractor = self._extractor(None, max_tokens=self.options.max_tokens, use_cache=False)
        self._route = RoutePrompts(router, extractor, NumpyRouterScorer())

    def score(self, texts: Sequence[str]) -> Scored:
        decisions = self._routes(texts)
        labels = self._labels
        return Scored(
            np.array([labels.label_of(made.best or "") for made in decisions]),
            np.array([made.confidence for made in decisions]),
            np.array([made.out_of_scope for made in decisions]),
        )

    def route(self, text: str) -> object:
        return self._routes([text])

    def _routes(self, texts: Sequence[str]) -> list[RoutingDecision]:
        assert self._route is not None, "not trained"
        return self._route(RouteRequest(tuple(texts)))

    def _extractor(self, _base_model: str | None, *, max_tokens: int, use_cache: bool) -> FeatureExtractor:
        return self._application.feature_extractor(self.base, max_tokens=max_tokens, use_cache=use_cache)
