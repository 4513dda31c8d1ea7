"""How an answer is generated, and why it ended."""

from __future__ import annotations

from enum import StrEnum

from attrs import frozen

from domain.errors import UsageError


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
