"""The ports that answer prompts with one loaded base model and the LoRA adapters on it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Protocol

from attrs import frozen

from domain.answers import GenerationOptions
from domain.chats import Chat


@frozen
class GenerationRequest:
    """One prompt with who answers it.

    Attributes:
        chat: the conversation; its newest turn is to be answered.
        adapter: the LoRA adapter, or None for the bare base model.
        images: image files that belong to the user's newest turn, for vision-language base models.
    """

    chat: Chat
    adapter: str | None
    images: tuple[Path, ...] = ()


@frozen
class Generation:
    """What was generated for one request.

    Attributes:
        text: the answer, without stop string and special tokens.
        tokens: number of generated tokens, the end mark included.
        finish: "stop" (the model ended, or a stop string came) or "length" (the token limit).
    """

    text: str
    tokens: int
    finish: str


class AnswerEngine(Protocol):
    """Generates answers with the base model and LoRA adapters that it holds; one copy of the base in memory.

    The contract:

    - A request is answered by exactly the LoRA adapter that it names, or by the bare base model.
    - An answer depends on its request and the options only: not on the other requests, their order or the batch
      (to float32 rounding where two tokens are equally likely).
    - A LoRA adapter's own system turn (see its folder) leads chats that bring none; the base model gets none.
    """

    @property
    def adapters(self) -> tuple[str, ...]:
        """The LoRA adapters that can answer."""
        ...

    def generate(
        self, requests: Sequence[GenerationRequest], options: GenerationOptions
    ) -> Iterator[tuple[int, Generation]]:
        """Yield ``(index of the request, its answer)`` as batches finish: each index once, in any order.

        Raises:
            UsageError: a LoRA adapter that is not held, or images for a base model that sees none.
            DataRejectedError: a request that the base model cannot take (too long, refused by its template).
            MissingFileError: an image that is not there.
        """
        ...


@frozen
class LoraDistances:
    """How far answers lie apart: the live proof that LoRA adapters have an effect.

    A distance is the largest difference between two sets of next-token logits on one fixed prompt, divided by
    the standard deviation of the base model's logits there.

    Attributes:
        names: the LoRA adapters.
        to_base: each one's distance to the bare base model.
        between: distances between each two, row and column in the order of `names`.
    """

    names: tuple[str, ...]
    to_base: tuple[float, ...]
    between: tuple[tuple[float, ...], ...]


class LoraProbe(Protocol):
    """Runs LoRA adapters on a fixed prompt, all in one batch."""

    def distances(self) -> LoraDistances:
        """Return the distances of every LoRA adapter that is held."""
        ...
