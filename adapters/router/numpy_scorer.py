"""Scores features with a trained router, in numpy: no torch needed to route."""

from __future__ import annotations

from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
from attrs import field, frozen
from numpy.typing import NDArray

from adapters.router.prompt_bank import PromptBank, nearest_rows
from adapters.router.router_heads import head_logits, log_sum_exp, softmax, standardise
from application.ports import TrainedRouter
from domain.errors import MismatchError
from domain.features import Matrix
from domain.routing import NearestPrompt, RouteScores


@frozen(eq=False)
class NumpyRouterScorer:
    """A :class:`application.ports.RouterScorer` in numpy; remembers the banks of living routers in float32."""

    _banks: WeakKeyDictionary[TrainedRouter, PromptBank] = field(factory=WeakKeyDictionary, init=False)

    def score(self, router: TrainedRouter, features: Matrix, *, nearest: int = 0) -> list[RouteScores]:
        """Return the scores of each row of `features` (n, F), with `nearest` prompts each."""
        rows = np.asarray(features, np.float32)
        expected = router.card.features.n_features
        if rows.ndim != 2 or rows.shape[1] != expected:
            raise MismatchError(f"features differ: the router takes {expected} numbers a row, got shape {rows.shape}")
        if len(rows) == 0:
            return []
        if (bank := self._banks.get(router)) is None:
            bank = self._banks[router] = PromptBank.from_tensors(router.tensors)
        logits = head_logits(router.card.head, router.tensors, rows).astype(np.float64) / router.card.temperature
        probabilities = softmax(logits)
        vectors = bank.embed(standardise(router.tensors, rows))
        similarity = bank.similarities(vectors)
        scores = bank.scores(similarity, log_sum_exp(logits), bank.stranger_similarity(vectors))
        shown = nearest_rows(similarity, nearest) if nearest else np.zeros((len(rows), 0), np.int64)
        return [
            RouteScores(tuple(probabilities[i].tolist()), float(scores[i]), _prompts(router, similarity[i], shown[i]))
            for i in range(len(rows))
        ]


def _prompts(router: TrainedRouter, similarity: NDArray[Any], rows: NDArray[np.int64]) -> tuple[NearestPrompt, ...]:
    labels = router.tensors["bank.labels"]
    return tuple(
        NearestPrompt(router.bank_texts[row], router.card.labels.name_of(int(labels[row])), float(similarity[row]))
        for row in rows.tolist()
    )
