"""How ``moe-router inspect`` tells what it found."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from application.datasets.inspect_dataset import AdapterTexts, InspectReport
from domain.printable import printable
from domain.text_statistics import PERCENTILES


def as_text(report: InspectReport) -> str:
    """Return the report for people."""
    return "\n".join(_lines(report))


def _lines(report: InspectReport) -> Iterator[str]:
    width = max(len(adapter.name) for adapter in report.adapters)
    yield f"Data set {printable(report.path)}"
    yield from ("", "Rows and characters per prompt:")
    heads = "".join(f"{'max' if one == 100 else f'p{one}':>7}" for one in PERCENTILES)
    yield f"  {'adapter':<{width}}  {'train':>6} {'val':>6} {'eval':>6}  {heads}"
    for adapter in report.adapters:
        yield f"  {adapter.name:<{width}}  {_counts(adapter)}  {_percentiles(adapter)}"
    yield from ("", "Telling words (texts with the word):")
    for adapter in report.adapters:
        yield f"  {adapter.name:<{width}}  " + ", ".join(f"{one.word} ({one.count})" for one in adapter.telling)
    yield from ("", f"Near-duplicates across adapters (similarity ≥ {report.threshold:g}):")
    found = {names: count for names, count in report.n_near_duplicates.items() if count}
    yield from (f"  {one} / {other}: {count} pairs" for (one, other), count in found.items())
    if not found:
        yield "  none"
    for pair in report.near_duplicates:
        yield f"  {pair.similarity:.2f}  {pair.first.adapter}: {_short(pair.first.text)}"
        yield f"        {pair.second.adapter}: {_short(pair.second.text)}"


def _counts(adapter: AdapterTexts) -> str:
    counts = {str(split): count for split, count in adapter.counts.items()}
    return " ".join(f"{counts.get(split, 0):>6}" for split in ("train", "val", "eval"))


def _percentiles(adapter: AdapterTexts) -> str:
    return "".join(f"{adapter.characters.get(one, 0):>7}" for one in PERCENTILES)


def _short(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= 90 else f"{line[:89]}…"


def as_values(report: InspectReport) -> dict[str, Any]:
    """Return the report as plain values."""
    adapters = {
        one.name: {
            "samples": {str(split): count for split, count in one.counts.items()},
            "characters": {f"p{percent}": value for percent, value in one.characters.items()},
            "words": {f"p{percent}": value for percent, value in one.words.items()},
            "telling_words": [{"word": w.word, "z_score": w.z_score, "texts": w.count} for w in one.telling],
        }
        for one in report.adapters
    }
    pairs = [
        {
            "similarity": pair.similarity,
            "adapters": [pair.first.adapter, pair.second.adapter],
            "texts": [pair.first.text, pair.second.text],
            "source_ids": [pair.first.source_id, pair.second.source_id],
        }
        for pair in report.near_duplicates
    ]
    counts = [{"adapters": list(names), "pairs": count} for names, count in report.n_near_duplicates.items()]
    return {
        "path": printable(report.path),
        "adapters": adapters,
        "threshold": report.threshold,
        "near_duplicate_counts": counts,
        "near_duplicates": pairs,
    }
