"""How ``moe-router datasets`` lists what is on a volume."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from attrs import asdict

from application.publishing.list_datasets import PublishedDataset


def as_values(found: Sequence[PublishedDataset], volume: str) -> dict[str, Any]:
    """Return the list as plain values."""
    return {"volume": volume, "datasets": [asdict(each) for each in found]}


def as_text(found: Sequence[PublishedDataset], volume: str, remote_dir: str) -> str:
    """Return a table with a line for each data set; * marks the one that training uses by default."""
    if not found:
        return f"No data sets in {volume}:{remote_dir}/ (publish one: moe-router publish DATASET_DIR)"
    width = max(len(each.name) for each in found)
    head = f"  {'DATA SET':<{width}}  {'TRAIN':>6} {'VAL':>6} {'EVAL':>6} {'SIZE':>9}  CREATED"
    return "\n".join([head, *(_line(each, width) for each in found)])


def _line(dataset: PublishedDataset, width: int) -> str:
    counts = " ".join(f"{dataset.samples.get(part, '-'):>6}" for part in ("train", "val", "eval"))
    created = (dataset.created_at or "-")[:19]
    note = "" if dataset.complete else "  incomplete"
    mark = "*" if dataset.latest else " "
    return f"{mark} {dataset.name:<{width}}  {counts} {_size(dataset.size):>9}  {created}{note}"


def _size(size: int) -> str:
    return f"{size} B" if size < 1000 else f"{size / 1000:.1f} kB" if size < 1_000_000 else f"{size / 1e6:.1f} MB"
