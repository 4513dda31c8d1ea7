"""Training and growing routers, in this process."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from attrs import mutable

from entrypoints.version import tool_version
from entrypoints.wiring.routing import RoutingParts

if TYPE_CHECKING:  # every command pays for what is imported here, --help included
    from application.ports import (
        FeatureExtractor,
        Interruption,
        TrainedRouter,
    )
    from application.training.grow_router import GrowRouter
    from application.training.train_router import TrainRouter
    from application.training.training_data import Companions


def packaged_companions() -> Companions:
    """Return the packaged texts that belong to no adapter."""
    from adapters.companions import background_phrases, generic_prompts
    from application.training.training_data import Companions

    return Companions(background_phrases(), generic_prompts())


@mutable(slots=False)
class TrainingParts(RoutingParts):
    """Training and growing routers, in this process."""

    def train_router(self, interruption: Interruption) -> TrainRouter:
        """The trainer that works in this process.

        Args:
            interruption: reports signals to it.
        """
        from adapters.datasets.jsonl_dataset_store import JsonlDatasetStore
        from adapters.files.safetensors_checkpoints import SafetensorsCheckpointStore
        from adapters.metrics.tensorboard_metrics import TensorboardMetricsLog
        from adapters.router.numpy_calibrator import NumpyRouterCalibrator
        from adapters.router.numpy_probe import KernelRidgeProbe
        from adapters.router.torch_heads import TorchHeadTrainer
        from application.training.train_router import TrainRouter

        return TrainRouter(
            rows=JsonlDatasetStore(),
            prompts=self.prompt_reader,
            extractors=self.load_features,
            probe=KernelRidgeProbe(),
            heads=TorchHeadTrainer(),
            calibrator=NumpyRouterCalibrator(),
            routers=self.routers,
            checkpoints=SafetensorsCheckpointStore(),
            metrics=TensorboardMetricsLog(),
            interruption=interruption,
            clock=self.clock,
            tool_version=tool_version(),
            companions=packaged_companions(),
        )

    def load_features(
        self,
        base_model: str | None,
        *,
        max_tokens: int,
        use_cache: bool,
        max_layer: Callable[[int], int] | None = None,
    ) -> FeatureExtractor:
        """Load a base model for its features only: an :class:`application.ports.FeatureExtractorSource`."""
        base = self.load_base(base_model, max_layer=max_layer)
        return self.feature_extractor(base, max_tokens=max_tokens, use_cache=use_cache)

    def serve_tensorboard(self, folder: Path, host: str, port: int) -> tuple[str, Callable[[], object]]:
        """Start TensorBoard on a folder of runs; return its URL and a function that waits for Ctrl-C."""
        from adapters.metrics.tensorboard_server import serve

        return serve(folder, host, port)

    def grow_router(self, base_model: str | None = None, *, use_cache: bool = True) -> GrowRouter:
        """The use case that retrains a router for a grown data set and compares both."""
        from application.routing.evaluate_router import EvaluateReport, EvaluateRequest
        from application.training.grow_router import GrowRouter

        def score(router: TrainedRouter, path: Path) -> EvaluateReport:
            evaluate = self.evaluate_router(router, base_model=base_model, use_cache=use_cache)
            return evaluate(EvaluateRequest(path, robustness=False))

        return GrowRouter(self.train_router(self.interruption), self.routers, self.datasets, score)
