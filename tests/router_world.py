"""A small router with its data, for tests."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
from attrs import frozen

from adapters.in_memory.routers import PlainRouterCalibrator
from application.ports import LabelledFeatures, TrainedRouter, UncalibratedRouter
from domain.features import BaseModel, FeatureSpec
from domain.labels import LabelMap
from domain.router import RouterCard
from domain.routing import AbstentionThresholds

LABELS = LabelMap(("red", "green", "blue"))
SPEC = FeatureSpec(BaseModel("tiny", "f" * 64, 4, 3), (1, 3))
"""Two layers of width 3: six features."""


@frozen(eq=False)
class RouterWorld:
    """Three well separated clouds of prompts, with a nearest-centre head for them.

    Attributes:
        router: the head without calibration.
        train: 30 rows.
        val: 15 rows.
        strangers: 10 rows of features far from every cloud.
    """

    router: UncalibratedRouter
    train: LabelledFeatures
    val: LabelledFeatures
    strangers: Any

    def assembled(self, **changes: Any) -> TrainedRouter:
        """Return a complete router that knows the training rows and 3 strangers, with `changes` to its card."""
        made = PlainRouterCalibrator().calibrate(
            self.router, self.train, self.val, target_error=0.02, out_of_scope=self.strangers[:3]
        )
        return TrainedRouter(router_card(**changes), {**self.router.tensors, **made.tensors}, made.bank_texts)


def router_card(**changes: Any) -> RouterCard:
    values: dict[str, Any] = {
        "labels": LABELS,
        "features": SPEC,
        "head": "linear",
        "temperature": 1.5,
        "thresholds": AbstentionThresholds(0.4, 0.7),
        "target_error": 0.02,
        "seed": 42,
        "n_train": 30,
        "n_val": 15,
        "val_accuracy": 0.9,
        "dataset": "routing",
        "dataset_sha256": "d" * 64,
        "created_at": "2025-11-24T12:34:56+00:00",
        "tool_version": "0.1.0",
    }
    return RouterCard(**{**values, **changes})


@cache
def router_world() -> RouterWorld:
    rng = np.random.default_rng(7)
    centres = np.array([[4, 0, 0, 0, 0, 0], [0, 4, 0, 0, 0, 0], [0, 0, 4, 0, 0, 0]], np.float32)

    def rows(per_label: int, name: str) -> LabelledFeatures:
        labels = tuple(label for label in range(3) for _ in range(per_label))
        noise = 0.6 * rng.normal(size=(len(labels), 6)).astype(np.float32)
        texts = tuple(f"{name} {LABELS.name_of(label)} {i}" for i, label in enumerate(labels))
        return LabelledFeatures(centres[list(labels)] + noise, labels, texts)

    train, val = rows(10, "train"), rows(5, "val")
    mean, scale = train.features.mean(0), train.features.std(0)
    weight = (centres - mean) / scale
    bias = -0.5 * (weight**2).sum(1)
    tensors = {"feature.mean": mean, "feature.scale": scale, "head.weight": weight, "head.bias": bias}
    strangers = (rng.normal(size=(10, 6)) - np.array([6, 6, 6, 0, 0, 0])).astype(np.float32)
    return RouterWorld(UncalibratedRouter(LABELS, SPEC, "linear", tensors), train, val, strangers)
