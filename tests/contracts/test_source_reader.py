"""What every reader of source data promises."""

import csv
import gzip
import json
from collections import Counter
from itertools import islice
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard

from adapters.datasets.source_reader import FileSourceReader
from adapters.in_memory.datasets import InMemorySourceReader
from application.ports.datasets import Source
from domain.conversations import Rejection, RejectReason
from domain.errors import MissingFileError

PLAIN = Path("source.jsonl")


def row(number):
    return {"id": f"r{number}", "conversations": [{"from": "human", "value": f"prompt {number}"}]}


def lines_of(rows):
    return b"".join(b"\n" if one is None else json.dumps(one).encode() + b"\n" for one in rows)


def on_disk(rows, folder, pack=lambda content: content, block=128 * 1024):
    (folder / PLAIN).write_bytes(pack(lines_of(rows)))
    return FileSourceReader(block=block), Source("a", folder / PLAIN)


def in_memory(rows, folder):
    return InMemorySourceReader({PLAIN: rows}), Source("a", PLAIN)


def as_array(rows, folder, indent=None, pack=lambda content: content, block=128 * 1024):
    (folder / PLAIN).write_bytes(pack(json.dumps(rows, indent=indent).encode()))
    return FileSourceReader(block=block), Source("a", folder / PLAIN)


def in_shards(rows, folder):
    """Files of 1, 9, 20 and 50 of 80 rows, the second one packed; ids tell the rows apart."""
    for number, (start, stop) in enumerate([(0, 1), (1, 10), (10, 30), (30, 80)]):
        content = lines_of(rows[start:stop])
        (folder / f"part-{number}.jsonl").write_bytes(gzip.compress(content) if number == 1 else content)
    return FileSourceReader(), Source("a", folder / "part-*.jsonl")


def one_after_another(rows, folder):
    (folder / PLAIN).write_text("\n".join(json.dumps(one, indent=2) for one in rows))
    return FileSourceReader(), Source("a", folder / PLAIN)


def as_csv(rows, folder):
    with (folder / PLAIN).open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["id", "prompt"] if not rows or "id" in rows[0] else ["other", "prompt"])
        table.writerows([one.get("id"), one["conversations"][0]["value"]] for one in rows)
    return FileSourceReader(), Source("a", folder / PLAIN)


def as_parquet(rows, folder):
    table = pa.Table.from_pylist(rows or [], schema=None if rows else pa.schema([("id", pa.string())]))
    pq.write_table(table, folder / PLAIN, row_group_size=50)
    return FileSourceReader(), Source("a", folder / PLAIN)


def as_arrow(rows, folder, new=pa.ipc.new_file):
    table = pa.Table.from_pylist(rows or [], schema=None if rows else pa.schema([("id", pa.string())]))
    with new(folder / PLAIN, table.schema) as writer:
        writer.write_table(table, max_chunksize=50)
    return FileSourceReader(), Source("a", folder / PLAIN)


READERS = {
    "memory": in_memory,
    "plain": on_disk,
    "small blocks": lambda rows, folder: on_disk(rows, folder, block=7),
    "gzip": lambda rows, folder: on_disk(rows, folder, gzip.compress),
    "zstd": lambda rows, folder: on_disk(rows, folder, zstandard.compress),
}
TABLES = {
    "array": as_array,
    "array in small blocks": lambda rows, folder: as_array(rows, folder, indent=1, block=13),
    "packed array": lambda rows, folder: as_array(rows, folder, pack=gzip.compress),
    "values": one_after_another,
    "csv": as_csv,
    "parquet": as_parquet,
    "arrow file": as_arrow,
    "arrow stream": lambda rows, folder: as_arrow(rows, folder, pa.ipc.new_stream),
}
"""Kinds of files that have no blank lines, and rows of one kind only."""


@pytest.fixture(params={**READERS, **TABLES})
def opened(request, tmp_path):
    return lambda rows: {**READERS, **TABLES}[request.param](rows, tmp_path)


@pytest.fixture(params=READERS)
def opened_lines(request, tmp_path):
    return lambda rows: READERS[request.param](rows, tmp_path)


def draw(reader, source, seed=0, expected=4, take=None):
    with reader.open(source, seed=seed, expected=expected) as draws:
        return list(islice(draws, take)), draws.lines


@pytest.mark.parametrize("n_rows", [1, 5, 300])
def test_every_line_is_drawn_exactly_once(opened, n_rows):
    drawn, lines = draw(*opened([row(number) for number in range(n_rows)]))
    assert lines == n_rows
    assert sorted(line.number for line in drawn) == list(range(1, n_rows + 1))
    assert all(line.outcome == f"prompt {line.number - 1}" for line in drawn)
    assert all(line.source_id == f"r{line.number - 1}" for line in drawn)


def test_the_order_depends_on_seed_and_adapter_only(opened):
    reader, source = opened([row(number) for number in range(300)])
    orders = [[line.number for line in draw(reader, source, seed=seed)[0]] for seed in (0, 0, 1)]
    assert orders[0] == orders[1] != orders[2]
    assert orders[0] != sorted(orders[0])


def test_blank_and_rejected_lines_are_drawn_like_any_other(opened_lines):
    reader, source = opened_lines([row(0), None, [], {"id": "x"}, row(4)])
    outcomes = {line.number: line.outcome for line in draw(reader, source)[0]}
    reasons = {number: one.reason if isinstance(one, Rejection) else one for number, one in outcomes.items()}
    assert reasons == {
        1: "prompt 0",
        2: None,
        3: RejectReason.NOT_AN_OBJECT,
        4: RejectReason.NO_CONVERSATION,
        5: "prompt 4",
    }


def test_a_row_without_an_id_is_named_by_file_and_line(opened):
    reader, source = opened([{"conversations": [{"from": "human", "value": "a"}]}])
    assert draw(reader, source)[0][0].source_id == "source.jsonl:1"


def test_reading_all_goes_in_file_order(opened_lines):
    reader, source = opened_lines([row(0), None, [], row(3)])
    with reader.read_all(source) as lines:
        found = list(lines)
    assert [number for number, _, _ in found] == [1, 2, 3, 4]
    assert [one if not isinstance(one, Rejection) else "rejected" for _, one, _ in found] == [
        "prompt 0",
        None,
        "rejected",
        "prompt 3",
    ]


def test_a_missing_source_is_the_users_error(opened):
    reader, _ = opened([row(0)])
    missing = Source("a", Path("/nowhere/else.jsonl"))
    with pytest.raises(MissingFileError, match="else"), reader.open(missing, seed=0, expected=1):
        pass
    with pytest.raises(MissingFileError, match="else"), reader.read_all(missing):
        pass


def test_an_empty_source_has_no_lines(opened):
    assert draw(*opened([])) == ([], 0)


def test_the_order_is_the_same_whatever_the_packing_and_the_block_size(tmp_path):
    rows = [row(number) for number in range(300)]
    orders = [[line.number for line in draw(*on_disk(rows, tmp_path), seed=5)[0]]]
    for block in (1, 7, 1000):
        orders.append([line.number for line in draw(*on_disk(rows, tmp_path, block=block), seed=5)[0]])
    for pack in (gzip.compress, zstandard.compress):
        orders.append([line.number for line in draw(*on_disk(rows, tmp_path, pack), seed=5)[0]])
    assert all(order == orders[0] for order in orders)


@pytest.mark.parametrize("make", [in_memory, on_disk, in_shards])
def test_each_place_in_the_order_is_uniform_over_the_lines(make, tmp_path):
    """Chi-square over many seeds: first place, last of the first batch, and a place far behind it."""
    n_lines, n_seeds, n_groups = 80, 300, 5
    reader, source = make([row(number) for number in range(n_lines)], tmp_path)
    places = {0: Counter(), 64: Counter(), 75: Counter()}  # the first batch holds 65 lines at 1 expected
    for seed in range(n_seeds):
        drawn, _ = draw(reader, source, seed=seed, expected=1, take=76)
        for place, counts in places.items():
            counts[int(drawn[place].source_id[1:]) * n_groups // n_lines] += 1
    for place, counts in places.items():
        expected = n_seeds / n_groups
        chi_square = sum((counts[group] - expected) ** 2 / expected for group in range(n_groups))
        assert chi_square < 18.5, f"place {place}: {counts}"  # 0.999 quantile at 4 degrees of freedom


def test_all_shards_are_drawn_from_and_read_in_order(tmp_path):
    reader, source = in_shards([row(number) for number in range(80)], tmp_path)
    drawn, lines = draw(reader, source)
    assert lines == 80
    assert sorted(int(line.source_id[1:]) for line in drawn) == list(range(80))
    assert {line.origin.path.name for line in drawn} == {f"part-{number}.jsonl" for number in range(4)}
    with reader.read_all(source) as found:
        assert [outcome for _, outcome, _ in found] == [f"prompt {number}" for number in range(80)]


@pytest.mark.parametrize("tail", [b"", b"\n", b" \n\n"])
@pytest.mark.parametrize("block", [1, 2, 3, 7, 128 * 1024])
def test_the_ends_of_values_are_found_whatever_the_text_and_the_blocks(tmp_path, tail, block):
    texts = ['a "quote", a }{ and a ][', "back\\slash \\\\", "\\", '\\"', "é 🦜\n", "x" * 50]
    rows = [{"id": f"r{n}", "messages": [{"role": "user", "content": f"{text} {n}"}]} for n, text in enumerate(texts)]
    expected = [f"{text} {n}".strip() for n, text in enumerate(texts)]
    path = tmp_path / "rows.json"
    for content in (
        json.dumps(rows).encode(),
        b"\xef\xbb\xbf \n" + json.dumps(rows, indent=2, ensure_ascii=False).encode(),
        b"".join(json.dumps(one).encode() for one in rows),
        b" \n".join(json.dumps(one, indent=1).encode() for one in rows),
    ):
        path.write_bytes(content + tail)
        with FileSourceReader(block=block).read_all(Source("a", path)) as found:
            assert [outcome for _, outcome, _ in found] == expected
        drawn, lines = draw(FileSourceReader(block=block), Source("a", path), expected=1)
        assert lines == len(rows)
        assert sorted(line.outcome for line in drawn) == sorted(expected)
