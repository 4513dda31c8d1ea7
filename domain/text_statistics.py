"""What sets the texts of different adapters apart: their lengths and their words."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from attrs import frozen

from domain.errors import UsageError
from domain.samples import normalise_text

PERCENTILES = (5, 25, 50, 75, 95, 100)
"""The percentiles that are reported; 100 is the maximum."""

_WORD = re.compile(r"[^\W_]+(?:['’-][^\W_]+)*")


@frozen
class TellingWord:
    """A word that tells one adapter's texts from the others'.

    Attributes:
        word: the word, normalised.
        z_score: log-odds ratio against the other adapters in standard deviations; above 2 it is hardly chance.
        count: texts of the adapter that hold the word.
    """

    word: str
    z_score: float
    count: int


def percentile(values: Sequence[int], percent: float) -> int:
    """Return the nearest-rank percentile: the least value that `percent` of the values do not exceed.

    Raises:
        UsageError: there are no values, or `percent` is outside 0..100.
    """
    if not values or not 0 <= percent <= 100:
        raise UsageError(f"no percentile {percent} of {len(values)} values")
    return sorted(values)[max(math.ceil(percent / 100 * len(values)), 1) - 1]


def words(text: str) -> list[str]:
    """Return the words of a text, normalised as for comparing texts."""
    return _WORD.findall(normalise_text(text))


def telling_words(texts: Mapping[str, Iterable[str]], limit: int) -> dict[str, tuple[TellingWord, ...]]:
    """Return each adapter's most telling words, most telling first.

    A word counts once per text. Ranked by the z-score of the log-odds ratio with an informative Dirichlet prior
    (Monroe, Colaresi & Quinn, "Fightin' Words", Political Analysis 16(4), 2008): frequent words of no class and
    rare words of any class both score low. The prior is the word's frequency over all adapters.

    Args:
        texts: texts by adapter.
        limit: words per adapter, at most; words with a z-score of 0 or less are left out.
    """
    counts = {name: Counter(word for text in part for word in set(words(text))) for name, part in texts.items()}
    background: Counter[str] = Counter()
    for one in counts.values():
        background.update(one)
    return {name: _ranked(counts[name], background, limit) for name in texts}


def _ranked(mine: Counter[str], everybody: Counter[str], limit: int) -> tuple[TellingWord, ...]:
    total, n_mine = everybody.total(), mine.total()
    scored = []
    for word, count in mine.items():
        prior = everybody[word]
        here = _log_odds(count + prior, n_mine + total)
        there = _log_odds(everybody[word] - count + prior, total - n_mine + total)
        variance = 1 / (count + prior) + 1 / (everybody[word] - count + prior)
        scored.append(TellingWord(word, (here - there) / math.sqrt(variance), count))
    best = sorted(scored, key=lambda one: (-one.z_score, one.word))[:limit]
    return tuple(one for one in best if one.z_score > 0)


def _log_odds(count: float, total: float) -> float:
    return math.log(count) - math.log(total - count) if total > count else 0.0
