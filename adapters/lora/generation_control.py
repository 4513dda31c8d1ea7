"""Where a row's answer ends and how its tokens are drawn, row by row: a batch never changes an answer."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

import torch
from transformers import LogitsProcessor, StoppingCriteria

_TAIL = 16  # tokens; with the stop strings' own length enough to see one whose start lies in older tokens


def row_seed(seed: int, prompt: str) -> int:
    """Return the seed of one prompt's draws: from the run's seed and the prompt, and from nothing else."""
    digest = hashlib.sha256(f"{seed}\n{prompt}".encode("utf-8", "surrogatepass")).digest()
    return int.from_bytes(digest[:8], "little") >> 1  # torch takes seeds below 2**63


def cut_at(text: str, stop: Sequence[str]) -> tuple[str, bool]:
    """Return the text before the first of the stop strings, and whether there was one."""
    found = [position for position in map(text.find, stop) if position >= 0]
    return (text[: min(found)], True) if found else (text, False)


class RowDraws(LogitsProcessor):
    """Draws each row's next token with that row's own random numbers.

    Adds Gumbel noise to ``logits / temperature``; its maximum is a draw from their softmax (Gumbel 1954; Maddison
    et al. 2014), so that greedy generation draws exactly, and the same for a row alone as in any batch.

    Args:
        seeds: one per row.
        temperature: above 0.
    """

    def __init__(self, seeds: Sequence[int], temperature: float) -> None:
        self._generators = [torch.Generator().manual_seed(seed) for seed in seeds]
        self._temperature = temperature

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        """Return noisy scores, shape (rows, vocabulary)."""
        noise = torch.stack([torch.empty(scores.shape[1]).exponential_(generator=g) for g in self._generators])
        gumbel = -noise.clamp(min=1e-30).log()
        return scores.float() / self._temperature + gumbel.to(scores.device)


class EndOfRow(StoppingCriteria):
    """Ends a row when one of the stop strings has appeared in its answer.

    Args:
        tokenizer: turns tokens back into text.
        prompt_width: tokens before the answer.
        stop: the strings.
    """

    def __init__(self, tokenizer: Any, prompt_width: int, stop: Sequence[str]) -> None:
        self._tokenizer = tokenizer
        self._prompt_width = prompt_width
        self._stop = tuple(stop)
        self._tail = _TAIL + max((len(string) for string in stop), default=0)

    def __call__(self, input_ids: torch.Tensor, scores: Any, **kwargs: Any) -> torch.Tensor:
        """Return for each row whether it is done, shape (rows,)."""
        start = max(self._prompt_width, input_ids.shape[1] - self._tail)
        texts = self._tokenizer.batch_decode(input_ids[:, start:], skip_special_tokens=True)
        done = [cut_at(text, self._stop)[1] for text in texts]
        return torch.tensor(done, device=input_ids.device)
