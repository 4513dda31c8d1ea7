"""Batches that turn out too large for the memory: halved and tried again."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

import torch

from domain.errors import OutOfMemoryError

Row = TypeVar("Row")
Result = TypeVar("Result")


def run_in_halves(
    batch: Sequence[Row], run: Callable[[Sequence[Row]], Result]
) -> Iterator[tuple[Sequence[Row], Result]]:
    """Yield ``(rows, run(rows))``: once for the whole batch, or for its halves where memory runs out, and so on.

    Raises OutOfMemoryError when a single row is too large; what was yielded before stays done.
    """
    try:
        result = run(batch)
    except torch.OutOfMemoryError as error:
        if len(batch) == 1:
            raise OutOfMemoryError(
                "the GPU's memory is too small for a single prompt",
                hint="let prompts be cut after fewer tokens, ask for fewer new tokens, or take a larger GPU",
            ) from error
    else:
        yield batch, result
        return
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    middle = (len(batch) + 1) // 2
    for half in (batch[:middle], batch[middle:]):
        yield from run_in_halves(half, run)
