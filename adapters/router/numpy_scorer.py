"""Scores features with a trained router, in numpy: no torch needed to route."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
from attrs import field, frozen
from numpy.typing import NDArray

from adapters.router.piece_scores import prompt_scores
from adapters.router.prompt_bank import PromptBank, nearest_rows
from adapters.router.router_heads import Forward, prepared_head, softmax, standardise
from application.ports import TrainedRouter
from domain.errors import MismatchError
from domain.features import Matrix
from domain.routing import NearestPrompt, RouteScores, distinct


@frozen(eq=False)
class NumpyRouterScorer:
    """A :class:`application.ports.RouterScorer` in numpy; remembers heads and banks of living routers in float32."""

    _ready: WeakKeyDictionary[TrainedRouter, tuple[Forward, PromptBank]] = field(
        factory=WeakKeyDictionary, init=False
    )

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
        rows = np.asarray(features, np.float32)
        expected = router.card.features.n_features
        if rows.ndim != 2 or rows.shape[1] != expected:
            raise MismatchError(f"features differ: the router takes {expected} numbers a row, got shape {rows.shape}")
        if len(rows) == 0:
            return []
        if (ready := self._ready.get(router)) is None:
            head = prepared_head(router.card.head, router.tensors)
            ready = self._ready[router] = head, PromptBank.from_tensors(router.tensors)
        head, bank = ready
        logits = head(rows, texts).astype(np.float64) / router.card.temperature
        readings = bank.read(bank.embed(standardise(router.tensors, rows)))
        made = prompt_scores(bank, readings, logits, sizes)
        probabilities = softmax(made.logits)
        similarity = readings.similarity[made.deciding]
        order = nearest_rows(similarity) if nearest else np.zeros((len(sizes), 0), np.int64)
        starts = np.cumsum([0, *sizes[:-1]])
        return [
            RouteScores(
                probabilities=tuple(probabilities[i].tolist()),
                out_of_scope=float(made.out_of_scope[i]),
                nearest=distinct(_ranked(router, similarity[i], order[i]), nearest),
                deciding=int(made.deciding[i] - starts[i]),
            )
            for i in range(len(sizes))
        ]


def _ranked(router: TrainedRouter, similarity: NDArray[Any], order: NDArray[np.int64]) -> Iterator[NearestPrompt]:
    labels = router.tensors["bank.labels"]
    for row in order.tolist():
        name = router.card.labels.name_of(int(labels[row]))
        yield NearestPrompt(router.bank_texts[row], name, float(similarity[row]))
