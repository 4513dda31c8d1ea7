"""Use case: tell from a server's log whether its traffic has moved, what it refuses, and where people disagree."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path

from attrs import frozen

from application.datasets.grow_dataset import read_existing
from application.ports.datasets import DatasetReader
from application.ports.traffic import TrafficReader
from domain.traffic import Cluster, LoggedDecision, Move, clusters, joined, move, new_words, words_of

SHOWN = 10
REPEATED = 3
"""Times that a prompt must have been refused to be among those refused most often."""


@frozen
class DriftReport:
    """What a log tells.

    Attributes:
        decisions: how many there are.
        first: time of the first, or None.
        last: time of the last, or None.
        by_adapter: decisions by who answered; the base model is "base".
        by_reason: decisions by reason.
        refused: share of the routed prompts for which nobody was chosen, in the older and the newer half.
        scores: how far the out-of-scope scores moved between the halves; None when there are too few.
        new_words: share of words that the data set does not have, in the two halves; None without texts.
        most_refused: prompts (or their hashes) that were refused most, `REPEATED` times or more, with how often.
        candidates: groups of refused prompts, each perhaps a new adapter's; none without texts.
        feedback: answers that something was said of.
        unmatched: ids that something was said of and that this log does not hold.
        agreed: share of those where the answer came from the right one.
        disagreements: how often (who answered, who would have been right), the most frequent first.
    """

    decisions: int
    first: str | None
    last: str | None
    by_adapter: Mapping[str, int]
    by_reason: Mapping[str, int]
    refused: tuple[float | None, float | None]
    scores: Move | None
    new_words: tuple[float | None, float | None]
    most_refused: tuple[tuple[str, int], ...]
    candidates: tuple[Cluster, ...]
    feedback: int
    unmatched: int
    agreed: float | None
    disagreements: tuple[tuple[str, str, int], ...]

    @property
    def moved(self) -> bool:
        """Whether the scores moved further than by chance."""
        return self.scores is not None and self.scores.moved


@frozen(eq=False)
class MeasureDrift:
    """Compares the older half of a log with the newer one, and both with the data set.

    Attributes:
        log: reads the server's log.
        store: reads the data set.
    """

    log: TrafficReader
    store: DatasetReader

    def __call__(self, log: Path, dataset_dir: Path) -> DriftReport:
        """Return the report; raises MissingFileError and DataRejectedError."""
        known = frozenset(
            word
            for rows in read_existing(self.store, dataset_dir).splits.values()
            for row in rows
            for word in words_of(row.text)
        )
        decisions, feedback = self.log.read(log)
        routed = [each for each in decisions if each.out_of_scope is not None]
        halves = (routed[: len(routed) // 2], routed[len(routed) // 2 :])
        refused = [each for each in routed if each.refused and each.prompt is not None]
        often = Counter(str(each.prompt) for each in refused)
        pairs = joined(decisions, feedback)
        wrong = Counter(
            (decision.adapter or "base", said.correct or "none")
            for decision, said in pairs
            if decision.adapter != said.correct
        )
        return DriftReport(
            decisions=len(decisions),
            first=decisions[0].time if decisions else None,
            last=decisions[-1].time if decisions else None,
            by_adapter=dict(Counter(each.adapter or "base" for each in decisions)),
            by_reason=dict(Counter(each.reason for each in decisions)),
            refused=(_share(halves[0]), _share(halves[1])),
            scores=move(_scores(halves[0]), _scores(halves[1])),
            new_words=(new_words(_texts(halves[0]), known), new_words(_texts(halves[1]), known)),
            most_refused=tuple(pair for pair in often.most_common(SHOWN) if pair[1] >= REPEATED),
            candidates=tuple(clusters(_texts(refused))[:SHOWN]),
            feedback=len(pairs),
            unmatched=len({said.id for said in feedback} - {each.id for each in decisions}),
            agreed=1 - sum(wrong.values()) / len(pairs) if pairs else None,
            disagreements=tuple((*pair, count) for pair, count in wrong.most_common(SHOWN)),
        )


def _share(decisions: list[LoggedDecision]) -> float | None:
    return sum(each.refused for each in decisions) / len(decisions) if decisions else None


def _scores(decisions: list[LoggedDecision]) -> list[float]:
    return [each.out_of_scope for each in decisions if each.out_of_scope is not None]


def _texts(decisions: list[LoggedDecision]) -> list[str]:
    return [each.prompt for each in decisions if each.has_text and each.prompt is not None]
