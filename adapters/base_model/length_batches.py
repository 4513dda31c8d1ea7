"""Grouping token sequences so that little of a batch is padding."""

from __future__ import annotations

from collections.abc import Sequence


def length_sorted_batches(lengths: Sequence[int], token_budget: int, most: int | None = None) -> list[list[int]]:
    """Return the indices of all sequences in batches of similar length, longest first.

    A batch holds as many sequences as fit into `token_budget` tokens when all are padded to its longest, at least
    one, and no more than `most`. Longest first, because that is where memory runs out, if it does. Ties keep their
    order, so that the same lengths always give the same batches.
    """
    batches: list[list[int]] = []
    room = 0
    for index in sorted(range(len(lengths)), key=lambda i: -lengths[i]):
        if room == 0:
            batches.append([])
            room = max(1, token_budget // max(1, lengths[index]))
            room = room if most is None else min(room, most)
        batches[-1].append(index)
        room -= 1
    return batches
