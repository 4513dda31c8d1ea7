"""A small router over any feature extractor, for tests of answering: three topics that share no words."""

from __future__ import annotations

from typing import Any

import numpy as np

from adapters.in_memory.features import InMemoryFeatureExtractor
from adapters.router.numpy_calibrator import NumpyRouterCalibrator
from adapters.router.numpy_scorer import NumpyRouterScorer
from application.ports import LabelledFeatures, TrainedRouter, UncalibratedRouter
from application.routing.route_prompts import RoutePrompts
from domain.features import FeatureSpec
from domain.labels import DEFAULT_LABELS
from domain.routing import AbstentionThresholds
from tests.router_world import router_card

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
    labels = np.asarray(train.labels)
    mean, scale = train.features.mean(0), train.features.std(0) + 1e-3
    centres = np.stack([((train.features - mean) / scale)[labels == label].mean(0) for label in range(3)])
    tensors = {
        "feature.mean": mean,
        "feature.scale": scale,
        "head.weight": centres.astype(np.float32),
        "head.bias": (-0.5 * (centres**2).sum(1)).astype(np.float32),
    }
    head = UncalibratedRouter(DEFAULT_LABELS, spec, "linear", tensors)
    fit = NumpyRouterCalibrator().calibrate(head, train, val, target_error=0.5)
    card = router_card(labels=DEFAULT_LABELS, features=spec, temperature=fit.temperature, thresholds=thresholds)
    return TrainedRouter(card, {**tensors, **fit.tensors}, fit.bank_texts)


def small_route(thresholds: AbstentionThresholds = ANYTHING) -> RoutePrompts:
    """Return routing without a model."""
    features = InMemoryFeatureExtractor()
    return RoutePrompts(small_router(features, thresholds), features, NumpyRouterScorer())


def _rows(features: Any, spec: FeatureSpec, start: int) -> LabelledFeatures:
    pairs = [(f"{a} {b}", label) for label, words in enumerate(WORDS) for a in words for b in words if a != b]
    texts = tuple(text for text, _ in pairs[start::2])
    return LabelledFeatures(features.extract(texts, spec.taps), tuple(label for _, label in pairs[start::2]), texts)
