"""Routers kept in a dictionary, scored and calibrated one number at a time: no file, no torch."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from copy import deepcopy
from pathlib import Path
from typing import Any

import attrs
import numpy as np
from attrs import define, field, frozen

from application.ports import Calibration, LabelledFeatures, TrainedRouter, UncalibratedRouter
from domain.errors import MismatchError, MissingFileError
from domain.features import Matrix
from domain.routing import AbstentionThresholds, NearestPrompt, RouteScores


@define
class InMemoryRouterStore:
    """A :class:`application.ports.RouterStore` that keeps copies of routers under their paths.

    Attributes:
        routers: what is kept, by path; fill it to prepare a test.
    """

    routers: dict[Path, TrainedRouter] = field(factory=dict)

    def save(self, router: TrainedRouter, target: Path) -> Path:
        """Keep a copy of the router."""
        digest = hashlib.sha256(repr((router.card, router.bank_texts)).encode())
        for name in sorted(router.tensors):
            digest.update(f"{name} {_rows(router.tensors[name])!r}".encode())
        self.routers[target] = attrs.evolve(router, tensors=deepcopy(dict(router.tensors)), sha256=digest.hexdigest())
        return target

    def load(self, source: Path) -> TrainedRouter:
        """Return a copy of the router kept under `source`."""
        if source not in self.routers:
            raise MissingFileError("no such router file", where=source)
        kept = self.routers[source]
        return attrs.evolve(kept, tensors=deepcopy(dict(kept.tensors)))


@frozen
class PlainRouterScorer:
    """A :class:`application.ports.RouterScorer` for routers with a linear head, number by number.

    Slow and obvious: the reference that the numpy scorer is tested against.

    Attributes:
        neighbours: how many of the most similar bank rows make the out-of-scope score.
    """

    neighbours: int = 5

    def score(self, router: TrainedRouter, features: Matrix, *, nearest: int = 0) -> list[RouteScores]:
        """Return the scores of each row of `features` (n, F), with `nearest` prompts each."""
        expected = router.card.features.n_features
        if len(features) and len(features[0]) != expected:
            raise MismatchError(f"features differ: the router takes {expected} numbers a row, got {len(features[0])}")
        rows = [[float(value) for value in features[i]] for i in range(len(features))]
        return [self._row(router, row, nearest) for row in rows]

    def _row(self, router: TrainedRouter, row: list[float], nearest: int) -> RouteScores:
        tensors = {name: _rows(tensor) for name, tensor in router.tensors.items()}
        scaled = [(x - m) / s for x, m, s in zip(row, tensors["feature.mean"], tensors["feature.scale"], strict=True)]
        logits = [
            (_dot(weights, scaled) + bias) / router.card.temperature
            for weights, bias in zip(tensors["head.weight"], tensors["head.bias"], strict=True)
        ]
        top = max(logits)
        weights = [math.exp(logit - top) for logit in logits]
        norm = math.sqrt(_dot(scaled, scaled)) or 1.0
        similar = [_dot(known, scaled) / norm for known in tensors["bank.features"]]
        order = sorted(range(len(similar)), key=lambda i: (-similar[i], i))
        closest = [similar[i] for i in order[: self.neighbours]]
        return RouteScores(
            tuple(weight / sum(weights) for weight in weights),
            1.0 - sum(closest) / len(closest),
            tuple(
                NearestPrompt(
                    router.bank_texts[i], router.card.labels.name_of(int(tensors["bank.labels"][i])), similar[i]
                )
                for i in order[:nearest]
            ),
        )


@frozen
class PlainRouterCalibrator:
    """A :class:`application.ports.RouterCalibrator` that trusts the head as it is and never abstains.

    Temperature 1, no limits; the bank is the first training prompts of each adapter.

    Attributes:
        rows_per_adapter: most training prompts of each adapter that are remembered.
    """

    rows_per_adapter: int = 50

    def calibrate(
        self,
        router: UncalibratedRouter,
        train: LabelledFeatures,
        val: LabelledFeatures,
        *,
        target_error: float,
        out_of_scope: Matrix | None = None,
    ) -> Calibration:
        """Return a calibration that changes nothing."""
        mean, scale = (_rows(router.tensors[name]) for name in ("feature.mean", "feature.scale"))
        kept = [i for i, label in enumerate(train.labels) if train.labels[:i].count(label) < self.rows_per_adapter]
        rows = []
        for i in kept:
            scaled = [(float(x) - m) / s for x, m, s in zip(train.features[i], mean, scale, strict=True)]
            norm = math.sqrt(_dot(scaled, scaled)) or 1.0
            rows.append([value / norm for value in scaled])
        tensors: dict[str, Matrix] = {
            "bank.features": np.asarray(rows, np.float32),
            "bank.labels": np.asarray([train.labels[i] for i in kept], np.int64),
        }
        return Calibration(1.0, AbstentionThresholds(), tensors, tuple(train.texts[i] for i in kept))


def _rows(tensor: Any) -> Any:
    return tensor.tolist() if hasattr(tensor, "tolist") else tensor


def _dot(left: Sequence[float], right: Sequence[float]) -> float:
    return sum(a * b for a, b in zip(left, right, strict=True))
