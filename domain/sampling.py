"""Uniform sampling without replacement, from streams whose length nobody knows yet.

Built on ``random.Random.random`` alone: it is the one method whose sequence Python promises to keep for a
seed, so a seed keeps its meaning over Python versions.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator, MutableSequence
from random import Random
from typing import Any

from domain.errors import UsageError


def seeded(seed: int, *purpose: str) -> Random:
    """Return a generator for one purpose, independent of those for other purposes under the same seed."""
    return Random("/".join((str(seed), *purpose)))


def _below(rng: Random, bound: int) -> int:
    return int(rng.random() * bound)  # bias below bound / 2**53


def shuffle(items: MutableSequence[Any], rng: Random) -> None:
    """Shuffle in place (Fisher-Yates)."""
    for last in range(len(items) - 1, 0, -1):
        other = _below(rng, last + 1)
        items[last], items[other] = items[other], items[last]


def reservoir_schedule(size: int, rng: Random) -> Iterator[tuple[int, int]]:
    """Say which items of a stream enter a reservoir, skipping over all others.

    Yields ``(index, slot)`` without end: item number `index` (from 0, ascending) takes the place `slot` of the
    reservoir. Whenever the stream ends, the reservoir holds a uniformly random subset of `size` items (all of
    them when there are fewer). The order within it is not random; shuffle it. Expected items until length n:
    ``size * (1 + ln(n / size))``. This is Algorithm L of K.-H. Li, "Reservoir-sampling algorithms of time
    complexity O(n(1 + log(N/n)))", ACM TOMS 20(4), 1994.

    Raises:
        UsageError: `size` is below 1.
    """
    if size < 1:
        raise UsageError(f"reservoir size {size} is below 1")
    yield from ((index, index) for index in range(size))
    index = size - 1
    log_weight = 0.0
    while True:
        log_weight += math.log(1.0 - rng.random()) / size  # 1 - u lies in (0, 1]: never log(0)
        weight = math.exp(log_weight)
        # log1p keeps the skip exact when the weight is tiny; a weight of 1 (u = 0) skips nothing.
        skip = math.log(1.0 - rng.random()) / math.log1p(-weight) if weight < 1.0 else 0.0
        index += int(skip) + 1
        yield index, _below(rng, size)


def shuffled_range(size: int, key: str, rounds: int = 6) -> Iterator[int]:
    """Yield 0 … size-1, each once, in a pseudo-random order that takes no memory.

    A Feistel network with BLAKE2b as its round function permutes the next power of four; values outside the
    range walk on along their cycle (Black & Rogaway, "Ciphers with arbitrary finite domains", CT-RSA 2002).

    Args:
        size: how many numbers, 0 or more.
        key: decides the order.
        rounds: Feistel rounds; 4 already give a strong pseudo-random permutation (Luby & Rackoff, 1988).
    """
    half = max(1, ((size - 1).bit_length() + 1) // 2)
    mask = (1 << half) - 1
    secret = hashlib.blake2b(key.encode()).digest()

    def permute(value: int) -> int:
        left, right = value >> half, value & mask
        for number in range(rounds):
            message = bytes([number]) + right.to_bytes(8, "little")
            digest = hashlib.blake2b(message, key=secret, digest_size=8).digest()
            left, right = right, left ^ (int.from_bytes(digest, "little") & mask)
        return left << half | right

    for start in range(size):
        value = permute(start)
        while value >= size:
            value = permute(value)
        yield value
