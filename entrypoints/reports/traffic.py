"""How ``drift`` and ``learn`` tell what they found."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import attrs

from application.serving.drift import REPEATED, DriftReport
from application.serving.learn import LearnReport


def drift_as_text(report: DriftReport) -> str:
    """Return the report for people."""
    return "\n".join(_drift_lines(report))


def drift_as_values(report: DriftReport) -> dict[str, Any]:
    """Return the report as plain values."""
    return {**attrs.asdict(report), "moved": report.moved}


def _drift_lines(report: DriftReport) -> Iterator[str]:
    if not report.decisions:
        yield "The log holds no decision."
        return
    yield f"{report.decisions} decisions from {report.first} to {report.last}"
    yield "  by who answered: " + _counts(report.by_adapter)
    yield "  by reason: " + _counts(report.by_reason)
    yield f"  refused: {_rate(report.refused[0])} in the older half, {_rate(report.refused[1])} in the newer"
    if report.scores is None:
        yield "  out-of-scope scores: too few to compare the halves"
    else:
        verdict = "they have moved" if report.moved else "no further apart than by chance"
        yield f"  out-of-scope scores: {verdict} ({report.scores.distance:.3f}, limit {report.scores.limit:.3f})"
    if report.new_words[0] is not None:
        older, newer = map(_rate, report.new_words)
        yield f"  words that the data set does not have: {older} in the older half, {newer} in the newer"
    if any(report.refused) and not report.most_refused:
        yield f"Refused most often: no prompt came {REPEATED} times"
    if report.most_refused:
        yield "Refused most often"
        yield from (f"  {count:>5}  {' '.join(prompt.split())[:100]}" for prompt, count in report.most_refused)
    if report.candidates:
        yield "Groups of refused prompts: each may be a new adapter's (add-adapter), or out of scope"
        for cluster in report.candidates:
            yield f"  {cluster.size:>5}  {' '.join(cluster.words)}: {' | '.join(cluster.examples)[:120]}"
    if report.feedback:
        yield f"Feedback on {report.feedback} answers: {_rate(report.agreed)} came from the right one"
        yield from (f"  {count:>5}  {who} answered, right: {right}" for who, right, count in report.disagreements)
    if report.unmatched:
        yield f"Feedback whose id this log does not hold: {report.unmatched}; check the ids that clients send"


def learn_as_text(report: LearnReport, kept: Path | None = None) -> str:
    """Return the report for people; `kept` is the file that took what belongs to no adapter, if one did."""
    sizes = ", ".join(f"{count} {split}" for split, count in report.grown.counts.items())
    parts = {
        "known already": report.known,
        "in conflict with the data set": report.conflicts,
        "without a text": report.without_text,
        "for adapters that the data set does not have": report.unknown,
        f"that belong to no adapter ({f'now in {kept}' if kept else '--out-of-scope FILE keeps them'})": len(
            report.out_of_scope
        ),
    }
    left = ", ".join(f"{count} {what}" for what, count in parts.items() if count)
    return f"{report.corrected} new rows → {report.grown.path} ({sizes})" + (
        f"\n  not among them: {left}" if left else ""
    )


def learn_as_values(report: LearnReport) -> dict[str, Any]:
    """Return the report as plain values."""
    values = attrs.asdict(report, recurse=False)
    grown = values.pop("grown")
    return {"dataset": str(grown.path), "rows": {str(split): n for split, n in grown.counts.items()}, **values}


def _counts(counts: Any) -> str:
    return ", ".join(f"{name} {count}" for name, count in sorted(counts.items(), key=lambda item: -item[1]))


def _rate(value: float | None) -> str:
    return "–" if value is None else f"{value:.1%}"
