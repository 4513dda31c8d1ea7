"""A small router with its data, for tests."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np
from attrs import frozen

from adapters.in_memory.routers import PlainRouterCalibrator
from adapters.router.numpy_calibrator import NumpyRouterCalibrator
from application.ports import KnownTexts, LeftOutFold, TrainedRouter, UncalibratedRouter
from domain.features import BaseModel, FeatureSpec
from domain.labels import LabelMap
from domain.router import RouterCard
from domain.routing import AbstentionThresholds

LABELS = LabelMap(("red", "green", "blue"))
FOLDS = 5
SPEC = FeatureSpec(BaseModel("tiny", "f" * 64, 4, 3), (1, 3))
"""Two layers of width 3: six features."""


@frozen(eq=False)
class RouterWorld:
    """Three well separated clouds of prompts, with a nearest-centre head for them.

    Attributes:
        router: the head without calibration; it knows the training rows, some background and 3 out-of-scope prompts.
        train: 30 rows.
        val: 15 rows.
        out_of_scope: 10 rows of features far from every cloud.
        background: 4 rows of features that no cloud is near to.
    """

    router: UncalibratedRouter
    train: KnownTexts
    val: KnownTexts
    out_of_scope: Any
    background: Any

    def assembled(self, **changes: Any) -> TrainedRouter:
        """Return a complete router, with `changes` to its card."""
        made = PlainRouterCalibrator().calibrate(self.router, self.left_out(), target_error=0.02)
        return TrainedRouter(router_card(**changes), {**self.router.tensors, **made.tensors}, made.bank_texts)

    def left_out(self) -> list[LeftOutFold]:
        """Return each fold's rows and out-of-scope prompts, each prompt one piece, with a changed copy each."""
        folds = []
        for fold in range(FOLDS):
            some = [row for row, each in enumerate(self.train.folds) if each == fold]
            features = np.concatenate(
                [self.train.features[some], self.train.features[some], self.out_of_scope[fold::FOLDS]]
            )
            labels = [self.train.labels[row] for row in some]
            others = len(features) - 2 * len(some)
            folds.append(
                LeftOutFold(
                    logits=self.logits(features),
                    features=features,
                    sizes=(1,) * len(features),
                    labels=(*labels, *labels, *[3] * others),
                    changed=(*[False] * len(some), *[True] * len(some), *[False] * others),
                )
            )
        return folds

    def logits(self, features: Any) -> Any:
        """Return the head's logits, "none" last."""
        tensors = self.router.tensors
        scaled = (features - tensors["feature.mean"]) / tensors["feature.scale"]
        return scaled @ tensors["head.weight"].T + tensors["head.bias"]


def centre_router(
    labels: LabelMap, spec: FeatureSpec, train: KnownTexts, val: KnownTexts, target_error: float, **changes: Any
) -> TrainedRouter:
    """Return a router that knows `train` by its centres and is calibrated on `val`, with `changes` to its card."""
    features, own = np.asarray(train.features), np.asarray(train.labels)
    mean, scale = features.mean(0), features.std(0) + 1e-3
    centres = [((features[own == label] - mean) / scale).mean(0) for label in range(len(labels))]
    weight = np.stack([*centres, np.zeros_like(mean)]).astype(np.float32)
    bias = (-0.5 * (weight**2).sum(1)).astype(np.float32)
    head = {"feature.mean": mean, "feature.scale": scale, "head.weight": weight, "head.bias": bias}
    nothing = KnownTexts(np.zeros((0, features.shape[1]), np.float32), (), (), ())
    logits = (np.asarray(val.features) - mean) / scale @ weight.T + bias
    n = len(val.labels)
    fold = LeftOutFold(logits, val.features, (1,) * n, val.labels, (False,) * n)
    made = NumpyRouterCalibrator().calibrate(
        UncalibratedRouter(labels, spec, "linear", head, train, nothing, nothing), [fold], target_error=target_error
    )
    values = {
        "labels": labels,
        "features": spec,
        "temperature": made.temperature,
        "thresholds": made.thresholds,
        "target_error": target_error,
        "trade_off": made.trade_off,
        **changes,
    }
    return TrainedRouter(router_card(**values), {**head, **made.tensors}, made.bank_texts)


def known_texts(features: Any, spec: FeatureSpec, texts: Sequence[str], labels: Sequence[int]) -> KnownTexts:
    """Return texts with the features that an extractor gives them, in no fold."""
    texts = tuple(texts)
    return KnownTexts(features.extract(texts, spec.taps), texts, tuple(labels), (-1,) * len(texts))


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
        "n_out_of_scope": 3,
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

    def rows(per_label: int, name: str) -> KnownTexts:
        labels = tuple(label for label in range(3) for _ in range(per_label))
        noise = 0.6 * rng.normal(size=(len(labels), 6)).astype(np.float32)
        texts = tuple(f"{name} {LABELS.name_of(label)} {i}" for i, label in enumerate(labels))
        folds = tuple(i % FOLDS for i in range(len(labels)))
        return KnownTexts((centres[list(labels)] + noise).astype(np.float32), texts, labels, folds)

    def unlabelled(features: Any, name: str) -> KnownTexts:
        return KnownTexts(
            features,
            tuple(f"{name} {i}" for i in range(len(features))),
            (),
            tuple(i % FOLDS for i in range(len(features))),
        )

    train, val = rows(10, "train"), rows(5, "val")
    mean, scale = train.features.mean(0), train.features.std(0)
    weight = np.concatenate([(centres - mean) / scale, np.zeros((1, 6))]).astype(np.float32)
    bias = (-0.5 * (weight**2).sum(1)).astype(np.float32)
    tensors = {"feature.mean": mean, "feature.scale": scale, "head.weight": weight, "head.bias": bias}
    out_of_scope = (rng.normal(size=(10, 6)) - np.array([6, 6, 6, 0, 0, 0])).astype(np.float32)
    background = (0.1 * rng.normal(size=(4, 6)) + np.array([1.3, 1.3, 1.3, 9, 0, 0])).astype(np.float32)
    head = UncalibratedRouter(
        LABELS,
        SPEC,
        "linear",
        tensors,
        train,
        unlabelled(background, "thanks"),
        unlabelled(out_of_scope[:3], "strange"),
    )
    return RouterWorld(head, train, val, out_of_scope, background)
