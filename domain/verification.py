"""What makes a routing data set trustworthy, as checks over its rows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from enum import StrEnum
from itertools import combinations

from attrs import frozen

from domain.labels import LabelMap
from domain.references import ReferenceAnswer
from domain.samples import RoutingSample, normalise_text
from domain.split import Split

Rows = Mapping[Split, Sequence[RoutingSample]]
"""Rows by split; a split that the data set does not have is absent."""


class Outcome(StrEnum):
    """How a check ended; a skipped one could not be made, and says why."""

    PASSED = "passed"
    FAILED = "failed"
    SKIPPED = "skipped"


@frozen
class Check:
    """One thing that was looked at.

    Attributes:
        name: what, in a few words.
        outcome: how it ended.
        detail: what was found.
    """

    name: str
    outcome: Outcome
    detail: str


def passed_unless(name: str, faults: Sequence[str], good: str) -> Check:
    """Return a check that failed when there are faults; its detail names the first three."""
    if not faults:
        return Check(name, Outcome.PASSED, good)
    more = f"; and {len(faults) - 3} more" if len(faults) > 3 else ""
    return Check(name, Outcome.FAILED, "; ".join(faults[:3]) + more)


def check_labels(rows: Rows, labels: LabelMap) -> Check:
    """Every row's label means its adapter, and every adapter has training or validation rows."""
    known = labels.as_mapping()
    faults = [
        f"{split}: adapter {name!r} with label {label}, {count} rows"
        for split, part in rows.items()
        for (name, label), count in Counter((row.adapter, row.label) for row in part).items()
        if known.get(name) != label
    ]
    present = {row.adapter for split in (Split.TRAIN, Split.VAL) for row in rows.get(split, ())}
    faults += [f"adapter {name!r} has no training or validation rows" for name in labels.names if name not in present]
    return passed_unless("labels against names", faults, str(labels))


def check_balance(rows: Rows, labels: LabelMap) -> Check:
    """In every split the adapters' counts differ by at most a tenth, and one row."""
    faults, found = [], []
    for split, part in rows.items():
        counts = Counter(row.adapter for row in part)
        per_adapter = [counts[name] for name in labels.names]
        shown = "/".join(map(str, per_adapter))
        found.append(f"{split} {shown}")
        if max(per_adapter) > 1.1 * min(per_adapter) + 1:
            faults.append(f"{split}: {shown} rows for {', '.join(labels.names)}")
    return passed_unless("balance", faults, ", ".join(found))


def check_repeats(rows: Rows) -> Check:
    """No normalised text stands twice in a split under one adapter."""
    faults = []
    for split, part in rows.items():
        counts = Counter((normalise_text(row.text), row.adapter) for row in part)
        faults += [f"{split}: {text[:60]!r} {count} times" for (text, _), count in counts.items() if count > 1]
    return passed_unless("no repeated text", faults, f"{sum(map(len, rows.values()))} texts")


def check_leakage(rows: Rows) -> Check:
    """No normalised text stands in two splits."""
    texts = {split: {normalise_text(row.text) for row in part} for split, part in rows.items()}
    faults = [
        f"{text[:60]!r} in {one} and {other}"
        for one, other in combinations(texts, 2)
        for text in sorted(texts[one] & texts[other])
    ]
    return passed_unless("no text in two splits", faults, ", ".join(texts))


def check_conflicts(rows: Rows) -> Check:
    """No normalised text stands under two adapters."""
    adapters: dict[str, set[str]] = {}
    for part in rows.values():
        for row in part:
            adapters.setdefault(normalise_text(row.text), set()).add(row.adapter)
    faults = [f"{text[:60]!r} under {' and '.join(sorted(names))}" for text, names in _contested(adapters)]
    return passed_unless("no text under two adapters", faults, f"{len(adapters)} distinct texts")


def check_answers(answers: Sequence[ReferenceAnswer], rows: Rows, recorded: Mapping[str, object]) -> Check:
    """Every reference answer is that of one held-out row, and there are as many as `recorded` (per adapter)."""
    owners = {(row.adapter, row.source_id, row.text) for row in rows.get(Split.EVAL, ())}
    found = [(one.adapter, one.source_id, one.text) for one in answers]
    faults = [
        f"{text[:60]!r} of {name} is not a held-out row" for name, _, text in found if (name, _, text) not in owners
    ]
    faults += [f"{text[:60]!r} has {count} answers" for (_, _, text), count in Counter(found).items() if count > 1]
    counts = Counter(name for name, _, _ in found)
    faults += [
        f"{counts[name]} answers of {name}, recorded are {count}"
        for name, count in recorded.items()
        if counts[name] != count
    ]
    good = ", ".join(f"{name} {count}" for name, count in counts.items())
    return passed_unless("reference answers belong to held-out rows", faults, good)


def _contested(adapters: Mapping[str, set[str]]) -> Iterator[tuple[str, set[str]]]:
    return ((text, names) for text, names in adapters.items() if len(names) > 1)
