"""The rows that every system of the routing benchmark gets: drawn once, the same for all.

The folder holds one folder per route with ``train.jsonl``, ``val.jsonl`` and ``test.jsonl``, and beside them
``out-of-scope-test.jsonl``; all ShareGPT-style (``conversations``, the first ``from: human`` turn is the prompt).
"""

from __future__ import annotations

import random
from pathlib import Path

import orjson
from attrs import frozen

from domain.errors import DataRejectedError, MissingFileError
from domain.samples import RoutingSample, normalise_text

VAL_SHARE = 4
"""One validation row for this many training rows: the 80:20 split that `generate` makes by default."""


def training_rows(samples: int) -> int:
    """Return how many of a route's `samples` rows are trained on; the others are its validation rows."""
    return samples - samples // (VAL_SHARE + 1)


@frozen
class BenchmarkData:
    """One draw.

    Attributes:
        routes: names of the routes in label order.
        train: training rows, the same number for each route.
        val: validation rows, the same number for each route; none of them is trained on.
        test: held-out rows; nothing is chosen on them.
        out_of_scope: held-out prompts that belong to no route.
    """

    routes: tuple[str, ...]
    train: tuple[RoutingSample, ...]
    val: tuple[RoutingSample, ...]
    test: tuple[RoutingSample, ...]
    out_of_scope: tuple[str, ...]


def draw(
    data: Path,
    *,
    per_route: int,
    test_per_route: int,
    out_of_scope: int,
    seed: int,
    val_per_route: int | None = None,
) -> BenchmarkData:
    """Draw the rows of one column of the table: `per_route` rows to train on, and a quarter more for validation.

    Draws are nested: the 8 rows of a route are among its 50, these among its 200. Texts that also stand in the
    test rows are left out of training and validation.

    Raises:
        MissingFileError: the folder has another shape.
        DataRejectedError: a route has too few rows.
    """
    folders = sorted(path.parent for path in data.glob("*/train.jsonl"))
    if len(folders) < 2:
        raise MissingFileError("no folders with train.jsonl", where=data, hint="one folder per route is expected")
    routes = tuple(folder.name for folder in folders)
    test = _draw_split(folders, "test", test_per_route, seed, avoid=frozenset())
    held_out = frozenset(normalise_text(row.text) for row in test)
    val = _draw_split(folders, "val", val_per_route or -(-per_route // VAL_SHARE), seed, avoid=held_out)
    held_out |= frozenset(normalise_text(row.text) for row in val)
    train = _draw_split(folders, "train", per_route, seed, avoid=held_out)
    outside = _read(data / "out-of-scope-test.jsonl")
    random.Random(f"{seed} out-of-scope").shuffle(outside)
    return BenchmarkData(routes, train, val, test, tuple(text for _, text in outside[:out_of_scope]))


def write_rows(rows: tuple[RoutingSample, ...], target: Path) -> Path:
    """Write rows as a file of a routing data set."""
    target.write_bytes(
        b"".join(
            orjson.dumps(
                {"text": row.text, "label": row.label, "adapter": row.adapter, "source_id": row.source_id},
                option=orjson.OPT_APPEND_NEWLINE,
            )
            for row in rows
        )
    )
    return target


def _draw_split(
    folders: list[Path], split: str, count: int, seed: int, avoid: frozenset[str]
) -> tuple[RoutingSample, ...]:
    rows = []
    for label, folder in enumerate(folders):
        found = [
            (source_id, text)
            for source_id, text in _read(folder / f"{split}.jsonl")
            if normalise_text(text) not in avoid
        ]
        if len(found) < count:
            raise DataRejectedError(f"{len(found)} usable rows, {count} asked for", where=folder / f"{split}.jsonl")
        random.Random(f"{seed} {split} {folder.name}").shuffle(found)
        rows += [RoutingSample(text, label, folder.name, source_id) for source_id, text in found[:count]]
    random.Random(f"{seed} {split}").shuffle(rows)  # no system meets the routes one after the other
    return tuple(rows)


def _read(path: Path) -> list[tuple[str, str]]:
    if not path.is_file():
        raise MissingFileError(
            "no such file", where=path, hint="see the folder's shape in benchmarks/routing_data.py"
        )
    rows = [orjson.loads(line) for line in path.read_bytes().split(b"\n") if line.strip()]
    return [
        (row["id"], next(turn["value"] for turn in row["conversations"] if turn["from"] == "human")) for row in rows
    ]
