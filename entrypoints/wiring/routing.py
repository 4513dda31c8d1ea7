"""Deciding with a trained router, and scoring it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from attrs import mutable

from domain.errors import UsageError
from entrypoints.version import install_extra
from entrypoints.wiring.foundation import Foundation

if TYPE_CHECKING:  # every command pays for what is imported here, --help included
    from adapters.base_model.transformers_base import LoadedBase
    from adapters.trunk.trunk_export import TrunkProof
    from application.ports import (
        TrainedRouter,
    )
    from application.routing.evaluate_router import EvaluateRouter
    from application.routing.route_prompts import RoutePrompts


@mutable(slots=False)
class RoutingParts(Foundation):
    """Deciding with a trained router, and scoring it."""

    def router_base(self, router: TrainedRouter, name_or_path: str | None = None) -> LoadedBase:
        """Load all of a base model: the one named, else the one that the router was trained on."""
        from adapters.base_model.embedded_base import EMBEDDED_NAME

        spec = router.card.features
        own = None if spec.base.name == EMBEDDED_NAME else spec.base.name
        return self.load_base(name_or_path or own)

    def route_on(self, router: TrainedRouter, base: LoadedBase) -> RoutePrompts:
        """Routing on a base model that is loaded."""
        from adapters.router.numpy_scorer import NumpyRouterScorer
        from application.routing.route_prompts import RoutePrompts

        features = self.feature_extractor(base, max_tokens=router.card.features.max_tokens, use_cache=False)
        return RoutePrompts(router, features, NumpyRouterScorer())

    def read_with(self, router: Path, base_model: str | None) -> str | None:
        """Return what to read prompts with: the base model named, else the trunk that the router lies in, if any."""
        from adapters.trunk.trunk_folder import is_trunk

        return str(router) if base_model is None and is_trunk(router) else base_model

    def export_trunk(self, router: TrainedRouter, target: Path, base_model: str | None = None) -> TrunkProof:
        """Write the part of its base model that a router reads, with the router; see `adapters.trunk`."""
        from adapters.base_model.embedded_base import EMBEDDED_NAME
        from adapters.files.staged_folder import check_replaceable
        from adapters.trunk.trunk_folder import TRUNK_FOLDER

        self.check_writable(target, folder=True)
        check_replaceable(target, TRUNK_FOLDER)  # before anything slow
        name = base_model or router.card.features.base.name
        base = self.load_base(
            None if name == EMBEDDED_NAME else name, device="cpu", max_layer=router.card.features.layers[-1]
        )
        try:
            from adapters.trunk.trunk_export import export_trunk
        except ModuleNotFoundError as error:
            raise UsageError(f"writing a trunk needs the package {error.name}", hint=install_extra("onnx")) from error
        return export_trunk(router, base, target)

    def route_prompts(
        self,
        router: TrainedRouter,
        *,
        base_model: str | None = None,
        device: str | None = None,
        use_cache: bool = False,
    ) -> RoutePrompts:
        """Routing with a trained router; loads its base model as far as it reads it, and no LoRA adapter.

        The base model is the one named, else the one that the router was trained on. A trunk's folder stands for its
        base model; then neither torch nor transformers is imported.
        """
        from adapters.base_model.embedded_base import EMBEDDED_NAME
        from adapters.router.numpy_scorer import NumpyRouterScorer
        from adapters.trunk.trunk_folder import is_trunk
        from application.routing.route_prompts import RoutePrompts

        spec = router.card.features
        if base_model is not None and is_trunk(Path(base_model)):
            from adapters.trunk.onnx_features import OnnxFeatureExtractor

            trunk = OnnxFeatureExtractor(Path(base_model), max_tokens=spec.max_tokens, max_batch=self.encode_batch)
            return RoutePrompts(router, trunk, NumpyRouterScorer())
        wanted = base_model or spec.base.name
        own = wanted == spec.base.name  # another model is loaded whole, so that it can be compared with the router's
        name = None if own and wanted == EMBEDDED_NAME else wanted
        base = self.load_base(name, device=device, max_layer=spec.layers[-1] if own else None)
        extractor = self.feature_extractor(base, max_tokens=spec.max_tokens, use_cache=use_cache)
        return RoutePrompts(router, extractor, NumpyRouterScorer())

    def evaluate_router(
        self, router: TrainedRouter, *, base_model: str | None = None, use_cache: bool = True
    ) -> EvaluateRouter:
        """Scoring a trained router on held-out prompts."""
        from application.routing.evaluate_router import EvaluateRouter

        route = self.route_prompts(router, base_model=base_model, use_cache=use_cache)
        return EvaluateRouter(self.datasets, self.prompt_reader, route, self.progress)
