"""A prompt to answer, how its answer is generated, and the answer with who gave it."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path

from attrs import frozen

from domain.chats import Chat
from domain.errors import UsageError
from domain.routing import RoutingDecision


@frozen
class GenerationOptions:
    """How an answer is generated.

    Attributes:
        max_new_tokens: an answer ends after this many tokens at the latest, 1 or more.
        temperature: 0 always takes the most likely token; above 0 draws, the more freely the higher.
        seed: seed of the draws. A prompt's draws depend on it and on the prompt only, not on the batch.
        stop: an answer ends before the first of these strings.
    """

    max_new_tokens: int = 64
    temperature: float = 0.0
    seed: int = 42
    stop: tuple[str, ...] = ()

    def __attrs_post_init__(self) -> None:
        """Raise UsageError with the rule and the offending value."""
        if self.max_new_tokens < 1:
            raise UsageError(f"max-new-tokens {self.max_new_tokens} is below 1")
        if not 0.0 <= self.temperature < float("inf"):
            raise UsageError(f"temperature {self.temperature} is not a number of 0 or more")
        if "" in self.stop:
            raise UsageError("an empty stop string would stop every answer at once")


GREEDY = GenerationOptions()
"""The most likely answer, with the command line's defaults."""


class Finish(StrEnum):
    """Why an answer ended: the model ended it (or a stop string came), or it was as long as allowed."""

    STOP = "stop"
    LENGTH = "length"


@frozen
class Prompt:
    """One prompt to answer.

    Attributes:
        chat: the conversation; its newest user turn is routed on and answered.
        images: image files that belong to that turn.
    """

    chat: Chat
    images: tuple[Path, ...] = ()


@frozen
class Answer:
    """One answer, with who gave it and why.

    Attributes:
        decision: the router's; None when the router failed on this prompt.
        adapter: the LoRA adapter that really answered, or None for the bare base model.
        fallback: why it is not the router's confident choice; None when it is.
        text: what was said.
        tokens: generated tokens.
        finish: why it ended.
        weights: hash of the weights of the LoRA adapter that answered, as the doctor shows it; None for the base
            model, or where it is not known.
    """

    decision: RoutingDecision | None
    adapter: str | None
    fallback: str | None
    text: str
    tokens: int
    finish: Finish
    weights: str | None = None
