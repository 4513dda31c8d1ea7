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

from application.ports import Calibration, KnownTexts, LeftOutFold, TrainedRouter, UncalibratedRouter
from domain.abstention import DEFAULT_TARGETS
from domain.errors import MismatchError, MissingFileError
from domain.features import Matrix
from domain.routing import AbstentionThresholds, NearestPrompt, RouteScores, distinct


@define
class InMemoryRouterStore:
    """A :class:`application.ports.RouterStore` that keeps copies of routers under their paths.

    Attributes:
        routers: what is kept, by path; fill it to prepare a test.
    """

    routers: dict[Path, TrainedRouter] = field(factory=dict)

    def check_target(self, target: Path) -> None:
        """Accept every path."""

    def replaced_by(self, target: Path) -> tuple[Path, ...]:
        """Return the path when a router is kept under it."""
        return (target,) if target in self.routers else ()

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
    """

    def score(
        self,
        router: TrainedRouter,
        features: Matrix,
        texts: Sequence[str],
        sizes: Sequence[int],
        *,
        nearest: int = 0,
    ) -> list[RouteScores]:
        """Return the scores of prompts; see the port."""
        expected = router.card.features.n_features
        if len(features) and len(features[0]) != expected:
            raise MismatchError(f"features differ: the router takes {expected} numbers a row, got {len(features[0])}")
        tensors = {name: _rows(tensor) for name, tensor in router.tensors.items()}
        found, start = [], 0
        for size in sizes:
            pieces = [_piece(router, tensors, _floats(features[start + i])) for i in range(size)]
            found.append(_prompt(router, pieces, nearest))
            start += size
        return found


@frozen
class _Piece:
    """What is said of one piece: logits per label, out-of-scope score, how far beyond background, similarities."""

    logits: list[float]
    out_of_scope: float
    own: float
    similar: list[float]


def _piece(router: TrainedRouter, tensors: dict[str, Any], row: list[float]) -> _Piece:
    scaled = _standardised(tensors, row)
    logits = [
        (_dot(weights, scaled) + bias) / router.card.temperature
        for weights, bias in zip(tensors["head.weight"], tensors["head.bias"], strict=True)
    ][:-1]
    evidence = max(logits) + math.log(sum(math.exp(logit - max(logits)) for logit in logits))
    moved = _unit([value + offset for value, offset in zip(scaled, tensors["bank.offset"], strict=True)])
    vector = [_dot(direction, moved) for direction in tensors["bank.projection"]]
    similar = [_dot(known, vector) for known in tensors["bank.features"]]
    neighbours, density_weight, evidence_weight, foreign_weight, margin = tensors["bank.score"]
    closest = sorted(range(len(similar)), key=lambda i: (-similar[i], i))[: int(neighbours)]
    near = sum(similar[i] for i in closest) / len(closest)
    density = sum(tensors["bank.density"][i] for i in closest) / len(closest)
    foreign = max((_dot(known, vector) for known in tensors["bank.out_of_scope"]), default=0.0)
    like = [
        max((_dot(known, phrase) for phrase in tensors["bank.background"]), default=-1.0) >= dense + margin
        for known, dense in zip(tensors["bank.features"], tensors["bank.density"], strict=True)
    ]
    ground = [_dot(known, vector) for known in tensors["bank.background"]]
    ground += [value for value, company in zip(similar, like, strict=True) if company]
    own = max((value for value, company in zip(similar, like, strict=True) if not company), default=-1.0)
    score = density_weight * density - near - evidence_weight * evidence + foreign_weight * max(foreign, 0.0)
    return _Piece(logits, score, own - max(ground, default=-1.0) - margin, similar)


def _prompt(router: TrainedRouter, pieces: list[_Piece], nearest: int) -> RouteScores:
    most = max(piece.own for piece in pieces)
    counting = [piece for piece in pieces if piece.own >= 0 or (most < 0 and piece.own == most)]
    logits = [max(values) for values in zip(*(piece.logits for piece in counting), strict=True)]
    exponentials = [math.exp(logit - max(logits)) for logit in logits]
    deciding = max(counting, key=lambda piece: max(piece.logits))
    order = sorted(range(len(deciding.similar)), key=lambda i: (-deciding.similar[i], i))
    labels = router.tensors["bank.labels"]
    return RouteScores(
        tuple(each / sum(exponentials) for each in exponentials),
        min(piece.out_of_scope for piece in counting),
        distinct(
            (
                NearestPrompt(router.bank_texts[i], router.card.labels.name_of(int(labels[i])), deciding.similar[i])
                for i in order
            ),
            nearest,
        ),
        pieces.index(deciding),
    )


@frozen
class PlainRouterCalibrator:
    """A :class:`application.ports.RouterCalibrator` that trusts the head as it is and never abstains.

    Temperature 1, no limits; the bank is the first known texts of each adapter, compared as they are.

    Attributes:
        rows_per_adapter: most known texts of each adapter that are remembered.
        neighbours: how many of the most similar ones make the out-of-scope score.
    """

    rows_per_adapter: int = 50
    neighbours: int = 3

    def calibrate(
        self,
        router: UncalibratedRouter,
        left_out: Sequence[LeftOutFold],
        *,
        target_error: float | None,
        cleaned: bool = False,
    ) -> Calibration:
        """Return a calibration that changes nothing."""
        known, tensors = router.known, {name: _rows(tensor) for name, tensor in router.tensors.items()}
        kept = [i for i, label in enumerate(known.labels) if known.labels[:i].count(label) < self.rows_per_adapter]
        rows = [_unit(_standardised(tensors, _floats(known.features[i]))) for i in kept]
        density = []
        for i, row in enumerate(rows):
            others = sorted((_dot(row, other) for j, other in enumerate(rows) if j != i), reverse=True) or [1.0]
            closest = others[: self.neighbours]
            density.append(sum(closest) / len(closest))

        def compared(texts: KnownTexts) -> Any:
            found = [_unit(_standardised(tensors, _floats(texts.features[i]))) for i in range(len(texts.texts))]
            return np.asarray(found, np.float32).reshape(len(found), len(rows[0]))

        bank: dict[str, Matrix] = {
            "bank.offset": np.zeros(len(rows[0]), np.float32),
            "bank.projection": np.eye(len(rows[0]), dtype=np.float32),
            "bank.features": np.asarray(rows, np.float32),
            "bank.density": np.asarray(density, np.float32),
            "bank.labels": np.asarray([known.labels[i] for i in kept], np.int64),
            "bank.background": compared(router.background),
            "bank.out_of_scope": compared(router.out_of_scope),
            "bank.score": np.asarray([self.neighbours, 0.5, 0.1, 0.5, 0.05], np.float32),
        }
        target = DEFAULT_TARGETS[0] if target_error is None else target_error
        return Calibration(1.0, AbstentionThresholds(), target, bank, tuple(known.texts[i] for i in kept))


def _standardised(tensors: dict[str, Any], row: list[float]) -> list[float]:
    return [(x - m) / s for x, m, s in zip(row, tensors["feature.mean"], tensors["feature.scale"], strict=True)]


def _unit(vector: list[float]) -> list[float]:
    norm = math.sqrt(_dot(vector, vector)) or 1.0
    return [value / norm for value in vector]


def _floats(row: Any) -> list[float]:
    return [float(value) for value in row]


def _rows(tensor: Any) -> Any:
    return tensor.tolist() if hasattr(tensor, "tolist") else tensor


def _dot(left: Sequence[float], right: Sequence[float]) -> float:
    return sum(a * b for a, b in zip(left, right, strict=True))
