"""What a server decided, as its log tells it: has the traffic moved, and what should be learnt from it."""

from __future__ import annotations

import math
import re
from bisect import bisect_right
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from attrs import frozen

from domain.samples import normalise_text

ENOUGH: Final = 30
"""Scores that each side of a comparison must have."""

CLUSTER_SIMILARITY: Final = 0.3
"""Share of words that a prompt must have in common with a cluster's first one."""

CLUSTERED: Final = 2000
"""Most prompts that are put into clusters; the newest ones."""

_WORD: Final = re.compile(r"\w+")
_REFUSED: Final = frozenset({"out_of_scope", "low_confidence"})


@frozen
class LoggedDecision:
    """One decision in a log.

    Attributes:
        id: the request's.
        time: when, ISO 8601.
        adapter: who answered; None for the base model.
        best: the adapter that was likeliest; None when the router was not asked.
        reason: why, see :class:`domain.stickiness.ServedReason`.
        out_of_scope: the score; None when the router was not asked.
        prompt: the prompt's text, or its hash where texts were not kept; None when nothing was routed.
        has_text: whether `prompt` is the text.
    """

    id: str
    time: str
    adapter: str | None
    best: str | None
    reason: str
    out_of_scope: float | None
    prompt: str | None
    has_text: bool

    @property
    def refused(self) -> bool:
        """Whether the router chose nobody."""
        return self.reason in _REFUSED


@frozen
class LoggedFeedback:
    """What a person said of one answer.

    Attributes:
        id: the request's.
        correct: the adapter that would have been right; None for none of them.
    """

    id: str
    correct: str | None


@frozen
class Move:
    """How far two samples of scores lie apart: Kolmogorov and Smirnov's statistic.

    Attributes:
        distance: the largest difference of their distribution functions, 0 to 1.
        limit: what it exceeds by chance once in a hundred times.
    """

    distance: float
    limit: float

    @property
    def moved(self) -> bool:
        """Whether chance does not explain it."""
        return self.distance > self.limit


def move(older: Sequence[float], newer: Sequence[float]) -> Move | None:
    """Return how far the scores moved; None when there are fewer than `ENOUGH` on a side."""
    if min(len(older), len(newer)) < ENOUGH:
        return None
    first, second = sorted(older), sorted(newer)
    distance = max(
        abs(bisect_right(first, value) / len(first) - bisect_right(second, value) / len(second))
        for value in (*first, *second)
    )
    return Move(distance, 1.628 * math.sqrt((len(first) + len(second)) / (len(first) * len(second))))


def new_words(prompts: Iterable[str], known: frozenset[str]) -> float | None:
    """Return the share of the prompts' words that none of the known ones is; None without words."""
    words = [word for prompt in prompts for word in words_of(prompt)]
    return sum(word not in known for word in words) / len(words) if words else None


def words_of(text: str) -> frozenset[str]:
    """Return the words of a text, without case."""
    return frozenset(_WORD.findall(normalise_text(text)))


@frozen
class Cluster:
    """Prompts that share words.

    Attributes:
        size: how many.
        words: up to six words that half of them share or more, the commonest first, then by the alphabet.
        examples: some of them.
    """

    size: int
    words: tuple[str, ...]
    examples: tuple[str, ...]


def clusters(prompts: Sequence[str], *, least: int = 5) -> list[Cluster]:
    """Return groups of prompts that share words, the largest first; each begins with the first that fits no other.

    Leader clustering (Hartigan 1975) by the share of common words; one pass, the newest `CLUSTERED` prompts only.
    """
    groups: list[tuple[frozenset[str], list[str]]] = []
    for prompt in prompts[-CLUSTERED:]:
        words = words_of(prompt)
        near = max(groups, key=lambda group: _overlap(words, group[0]), default=None)
        if near is not None and _overlap(words, near[0]) >= CLUSTER_SIMILARITY:
            near[1].append(prompt)
        else:
            groups.append((words, [prompt]))
    found = []
    for _, members in groups:
        if len(members) >= least:
            counts = Counter(word for member in members for word in words_of(member))
            common = sorted(counts, key=lambda word: (-counts[word], word))[:6]
            shared = tuple(word for word in common if 2 * counts[word] >= len(members))
            found.append(Cluster(len(members), shared, tuple(dict.fromkeys(members))[:3]))
    return sorted(found, key=lambda cluster: -cluster.size)


def _overlap(one: frozenset[str], other: frozenset[str]) -> float:
    return len(one & other) / len(one | other) if one and other else 0.0


def joined(
    decisions: Iterable[LoggedDecision], feedback: Iterable[LoggedFeedback]
) -> list[tuple[LoggedDecision, LoggedFeedback]]:
    """Return decisions with what was said of them; the last word on an answer counts."""
    last: Mapping[str, LoggedFeedback] = {each.id: each for each in feedback}
    return [(decision, last[decision.id]) for decision in decisions if decision.id in last]
