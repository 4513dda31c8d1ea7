"""How tokens are drawn and where rows end, row by row: a batch never changes an answer."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from attrs import define, field
from transformers import LogitsProcessor, StoppingCriteria

from adapters.lora.growing_answer import GrowingAnswer
from domain.answers import GenerationOptions


def row_seed(seed: int, prompt: str) -> int:
    """Return the seed of one prompt's draws: from the run's seed and the prompt, and from nothing else."""
    digest = hashlib.sha256(f"{seed}\n{prompt}".encode("utf-8", "surrogatepass")).digest()
    return int.from_bytes(digest[:8], "little") >> 1  # torch takes seeds below 2**63


@define(eq=False)
class AnswerRow:
    """One prompt on its way through the model, and its answer.

    Attributes:
        adapter: who answers; None for the bare base model.
        ids: token ids of the prompt.
        options: how the answer is generated.
        answer: what was said so far.
        seed: seed of its draws.
        mixes: whether it can share a batch with rows of other adapters.
        beside: what the model is given beside the prompt's tokens: images; such a row runs alone.
    """

    adapter: str | None
    ids: list[int]
    options: GenerationOptions
    answer: GrowingAnswer
    seed: int
    mixes: bool = True
    beside: Mapping[str, torch.Tensor] = field(factory=dict)
    _generator: torch.Generator = field(init=False)

    def __attrs_post_init__(self) -> None:
        """Begin the draws."""
        self._generator = torch.Generator().manual_seed(self.seed)

    def scores(self, logits: torch.Tensor) -> torch.Tensor:
        """Return what the next token is the maximum of, for this row's logits: (vocabulary,).

        At a temperature above 0 Gumbel noise is added to ``logits / temperature``; the maximum is then a draw from
        their softmax (Gumbel 1954; Maddison et al. 2014), the same for a row alone as in any batch.
        """
        if self.options.temperature == 0:
            return logits
        noise = torch.empty(logits.shape[0]).exponential_(generator=self._generator)
        gumbel = -noise.clamp(min=1e-30).log()
        return logits.float() / self.options.temperature + gumbel.to(logits.device)


def row_scores(rows: Sequence[AnswerRow], logits: torch.Tensor) -> torch.Tensor:
    """Return what each row's next token is the maximum of, for logits of the same shape: (rows, vocabulary)."""
    if all(row.options.temperature == 0 for row in rows):
        return logits
    return torch.stack([row.scores(each) for row, each in zip(rows, logits, strict=True)])


class RowDraws(LogitsProcessor):  # type: ignore[misc]  # an untyped class to mypy
    """Draws each row's next token with that row's own random numbers and temperature."""

    def __init__(self, rows: Sequence[AnswerRow]) -> None:
        self._rows = rows

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        """Return noisy scores, shape (rows, vocabulary)."""
        return row_scores(self._rows, scores)


class EndOfRow(StoppingCriteria):  # type: ignore[misc]
    """Adds each row's newest token to its answer, and ends the rows whose answers have ended.

    Args:
        rows: the rows.
        stopped: called after each token with the rows; returns those that nobody waits for any more.
    """

    def __init__(
        self, rows: Sequence[AnswerRow], stopped: Callable[[Sequence[AnswerRow]], Sequence[bool]] | None = None
    ) -> None:
        self._rows = rows
        self._stopped = stopped

    def __call__(self, input_ids: torch.Tensor, scores: Any, **kwargs: Any) -> torch.Tensor:
        """Return for each row whether it is done, shape (rows,)."""
        for row, token in zip(self._rows, input_ids[:, -1].tolist(), strict=True):
            row.answer.push(token)
        done = [row.answer.finish is not None for row in self._rows]
        if self._stopped is not None:
            done = [one or other for one, other in zip(done, self._stopped(self._rows), strict=True)]
        return torch.tensor(done, device=input_ids.device)
