"""Batches that turn out too large for the memory: halved and tried again."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Final, TypeVar

import torch

from domain.errors import OutOfMemoryError

_HINT: Final = "let prompts be cut after fewer tokens, ask for fewer new tokens, or take a larger GPU"
Row = TypeVar("Row")
Result = TypeVar("Result")


def run_in_halves(
    batch: Sequence[Row],
    run: Callable[[Sequence[Row]], Result],
    instead: Callable[[OutOfMemoryError], Result] | None = None,
) -> Iterator[tuple[Sequence[Row], Result]]:
    """Yield ``(rows, run(rows))``: once for the whole batch, or for its halves where memory runs out, and so on.

    A single row that is too large gives what `instead` returns; without `instead`, OutOfMemoryError is raised. What
    was yielded before stays done.
    """
    middle = (len(batch) + 1) // 2
    halves: tuple[Sequence[Row], ...] = ()
    try:
        result = run(batch)
    except torch.OutOfMemoryError as error:
        if len(batch) > 1:
            halves = (batch[:middle], batch[middle:])
        else:
            full = OutOfMemoryError("the GPU's memory is too small for this prompt alone", hint=_HINT)
            if instead is None:
                raise full from error
            result = instead(full)
    if not halves:
        yield batch, result
        return
    if torch.cuda.is_available():
        torch.cuda.empty_cache()  # here, where nothing refers to the batch's tensors any more
    for half in halves:
        yield from run_in_halves(half, run, instead)
