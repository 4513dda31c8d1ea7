"""Scoring answers without a model: a function says how likely each is."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from attrs import define, field

from application.ports.scoring import AnswerScore, ScoreRequest
from domain.chats import Chat, Message
from domain.errors import DataRejectedError, MoeRouterError, UsageError


def _length(adapter: str | None, chat: Chat, answer: Message) -> float:
    """Every letter costs a bit more under every adapter with a longer name."""
    return 0.01 * len(answer.content) * (1 + len(adapter or "")) + 0.001 * len(chat)


@define
class InMemoryAnswerScorer:
    """An :class:`application.ports.scoring.AnswerScorer` that counts words as tokens.

    Attributes:
        adapters: the LoRA adapters that it pretends to hold.
        per_token: nats per token by adapter (None for the base model), conversation and answer.
        requests: everything that it was asked, in order.
    """

    adapters: tuple[str, ...] = field(default=(), converter=tuple)
    per_token: Callable[[str | None, Chat, Message], float] = _length
    requests: list[ScoreRequest] = field(factory=list, init=False)

    def score(self, requests: Sequence[ScoreRequest]) -> Iterator[tuple[int, AnswerScore | MoeRouterError]]:
        """Score from the last to the first; see the port for the contract."""
        self.requests.extend(requests)
        for index in reversed(range(len(requests))):
            yield index, self._score(requests[index])

    def _score(self, request: ScoreRequest) -> AnswerScore | MoeRouterError:
        if request.adapter is not None and request.adapter not in self.adapters:
            return UsageError(f"LoRA adapter {request.adapter!r} is not loaded")
        if len(request.answer.content) > 10_000:
            return DataRejectedError("the answer is too long for this base model")
        tokens = 1 + len(request.answer.content.split())
        return AnswerScore(tokens * self.per_token(request.adapter, request.chat, request.answer), tokens)
