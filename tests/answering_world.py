"""A small router over any feature extractor, for tests of answering: three topics that share no words."""

from __future__ import annotations

from typing import Any

from adapters.in_memory.features import InMemoryFeatureExtractor
from adapters.router.numpy_scorer import NumpyRouterScorer
from application.ports import KnownTexts, TrainedRouter
from application.routing.route_prompts import RoutePrompts
from domain.features import FeatureSpec
from domain.labels import DEFAULT_LABELS
from domain.routing import AbstentionThresholds
from tests.router_world import centre_router, known_texts

WORDS = (
    ("book", "table", "Friday", "Monday", "meeting"),
    ("claim", "window", "broken", "kitchen", "file"),
    ("doctor", "provider", "insurance", "pick", "near"),
)
ANYTHING = AbstentionThresholds(min_confidence=0.0, max_out_of_scope=float("inf"))
NOTHING = AbstentionThresholds(min_confidence=0.0, max_out_of_scope=-1e9)


def small_router(features: Any, thresholds: AbstentionThresholds = ANYTHING) -> TrainedRouter:
    """Train a router on any features: the nearest topic's centre."""
    spec = FeatureSpec(features.base, (1, 2), max_tokens=features.max_tokens)
    train, val = (_rows(features, spec, start) for start in (0, 1))
    return centre_router(DEFAULT_LABELS, spec, train, val, 0.5, thresholds=thresholds)


def small_route(thresholds: AbstentionThresholds = ANYTHING) -> RoutePrompts:
    """Return routing without a model."""
    features = InMemoryFeatureExtractor()
    return RoutePrompts(small_router(features, thresholds), features, NumpyRouterScorer())


def _rows(features: Any, spec: FeatureSpec, start: int) -> KnownTexts:
    pairs = [(f"{a} {b}", label) for label, words in enumerate(WORDS) for a in words for b in words if a != b]
    return known_texts(features, spec, [text for text, _ in pairs[start::2]], [label for _, label in pairs[start::2]])
