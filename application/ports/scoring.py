"""The port that tells how likely a given answer is."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Protocol

from attrs import frozen

from domain.chats import Chat, Message
from domain.errors import MoeRouterError


@frozen
class ScoreRequest:
    """A given answer with who is asked how likely it is.

    Attributes:
        chat: the conversation up to the answer.
        answer: the assistant's turn that would follow.
        adapter: the LoRA adapter that is asked, or None for the bare base model.
    """

    chat: Chat
    answer: Message
    adapter: str | None


@frozen
class AnswerScore:
    """How unlikely an answer is.

    Attributes:
        loss: its negative log-likelihood, in nats: the sum over its tokens.
        tokens: how many tokens it has, the mark that ends the turn included; 1 or more.
    """

    loss: float
    tokens: int

    @property
    def per_token(self) -> float:
        """The negative log-likelihood per token, in nats: the cross-entropy that training minimises."""
        return self.loss / self.tokens


class AnswerScorer(Protocol):
    """Tells how likely given answers are, under a base model and the LoRA adapters that it holds.

    The contract:

    - A score is that of exactly the LoRA adapter that the request names, or of the bare base model, and what the
      answer's tokens get in a plain pass over the conversation and the answer, to float rounding (1e-5 relative in
      float32).
    - It depends on its request only: not on the other requests, their order or the batch, to the same rounding.
    - A LoRA adapter's own system turn leads chats that bring none, as when it answers.
    - A request that cannot be scored gives its error in place of a score; the others are scored.
    """

    @property
    def adapters(self) -> tuple[str, ...]:
        """The LoRA adapters that can be asked."""
        ...

    def score(self, requests: Sequence[ScoreRequest]) -> Iterator[tuple[int, AnswerScore | MoeRouterError]]:
        """Yield ``(index of the request, its score)`` as batches finish: each index once, in any order.

        In place of a score stands:

        - UsageError: a LoRA adapter that is not held.
        - DataRejectedError: a conversation or an answer that the base model cannot take (too long, refused by its
          template).
        """
        ...
