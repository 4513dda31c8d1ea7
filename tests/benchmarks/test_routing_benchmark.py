"""The benchmark's own promises: everyone gets the same rows, and no test row is ever trained on."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from types import ModuleType

import pytest

from adapters.datasets.jsonl_dataset_store import JsonlDatasetStore
from domain.errors import DataRejectedError, MissingFileError

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"


@pytest.fixture
def routing_data(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import routing_data

    return routing_data


def write(path: Path, texts: list[str]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    turns = [
        {
            "id": f"{path.stem}_{i}",
            "conversations": [{"from": "human", "value": text}, {"from": "gpt", "value": "an intent"}],
        }
        for i, text in enumerate(texts)
    ]
    path.write_text("".join(json.dumps(turn) + "\n" for turn in turns))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for route in ("banking", "travel", "work"):
        shared = [f"{route} asked twice {i}" for i in range(5)]
        write(tmp_path / route / "train.jsonl", [*(f"{route} train {i}" for i in range(30)), *shared])
        write(tmp_path / route / "val.jsonl", [*(f"{route} val {i}" for i in range(10)), shared[0].upper()])
        write(tmp_path / route / "test.jsonl", [*(f"{route} test {i}" for i in range(5)), *shared])
    write(tmp_path / "out-of-scope-test.jsonl", [f"out of scope {i}" for i in range(20)])
    return tmp_path


def draw(module: ModuleType, folder: Path, **changes: int):
    return module.draw(folder, **{"per_route": 8, "test_per_route": 10, "out_of_scope": 6, "seed": 1, **changes})


def test_every_route_gets_the_same_number_of_rows_of_each_split(routing_data, folder):
    data = draw(routing_data, folder)
    for rows, count in ((data.train, 8), (data.val, 2), (data.test, 10)):
        assert Counter(row.adapter for row in rows) == dict.fromkeys(data.routes, count)
        assert all(data.routes[row.label] == row.adapter for row in rows)
    assert len(data.out_of_scope) == 6


def test_the_same_seed_draws_the_same_rows_and_another_seed_others(routing_data, folder):
    assert draw(routing_data, folder) == draw(routing_data, folder)
    assert draw(routing_data, folder).train != draw(routing_data, folder, seed=2).train


def test_few_rows_are_among_many(routing_data, folder):
    few, many = draw(routing_data, folder, per_route=8), draw(routing_data, folder, per_route=20)
    assert {row.text for row in few.train} < {row.text for row in many.train}
    assert few.test == many.test


def test_no_text_of_the_test_rows_is_trained_or_validated_on(routing_data, folder):
    data = draw(routing_data, folder, per_route=30)
    seen = {row.text.casefold() for row in (*data.train, *data.val)}
    assert len(seen) == len(data.train) + len(data.val)
    assert not seen & {row.text.casefold() for row in data.test}


def test_too_few_rows_are_refused_with_the_file(routing_data, folder):
    with pytest.raises(DataRejectedError, match=r"banking/train\.jsonl: 30 usable rows, 31 asked for"):
        draw(routing_data, folder, per_route=31)


def test_a_folder_of_another_shape_is_refused(routing_data, tmp_path):
    with pytest.raises(MissingFileError, match="one folder per route"):
        draw(routing_data, tmp_path)


def test_rows_are_written_as_the_commands_read_them(routing_data, folder, tmp_path):
    rows = draw(routing_data, folder).train
    path = routing_data.write_rows(rows, tmp_path / "train.jsonl")
    assert JsonlDatasetStore().read_rows(path) == list(rows)
