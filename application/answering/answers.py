"""A prompt to answer, and the answer with who gave it: what the answering use cases hand around."""

from __future__ import annotations

from pathlib import Path

from attrs import frozen

from domain.answers import Finish
from domain.chats import Chat
from domain.routing import RoutingDecision


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
