"""Column and tag mappings of LLaMA-Factory, read from its own file."""

import json
from pathlib import Path

import pytest

from adapters.datasets.llamafactory_dataset_info import mapped_sources, read_dataset_info
from adapters.datasets.source_reader import FileSourceReader
from application.ports.datasets import Source
from domain.conversations import Rejection
from domain.errors import DataRejectedError, MissingFileError, UsageError


@pytest.fixture
def info(tmp_path):
    def write(**entries):
        path = tmp_path / "dataset_info.json"
        path.write_text(json.dumps(entries))
        return path

    return write


def texts(folder, source, row_format, *rows):
    (folder / source).write_text("\n".join(json.dumps(row) for row in rows))
    with FileSourceReader().read_all(Source("a", folder / source, row_format)) as lines:
        return [str(one.reason) if isinstance(one, Rejection) else one for _, one, _ in lines]


def test_sharegpt_with_other_columns_and_tags(tmp_path, info):
    path = info(
        mine={
            "file_name": "mine.jsonl",
            "formatting": "sharegpt",
            "columns": {"messages": "chat", "images": "pictures"},
            "tags": {"role_tag": "who", "content_tag": "said", "user_tag": "Customer", "assistant_tag": "clerk"},
        }
    )
    entry = read_dataset_info(path).entry("mine")
    assert entry.file == tmp_path / "mine.jsonl"
    rows = [
        {"chat": [{"who": "clerk", "said": "hello"}, {"who": "customer ", "said": "<image>a stamp"}]},
        {"chat": [{"who": "human", "said": "hello"}]},
        {"conversations": [{"from": "human", "value": "hello"}]},
    ]
    assert texts(tmp_path, "mine.jsonl", entry.row_format, *rows) == ["a stamp", "unknown-role", "no-conversation"]


@pytest.mark.parametrize(
    ("formatting", "row"),
    [
        ("sharegpt", {"conversations": [{"from": "human", "value": "hi"}, {"from": "observation", "value": "x"}]}),
        ("openai", {"messages": [{"role": "system", "content": "s"}, {"role": "user", "content": "hi"}]}),
    ],
)
def test_default_tags(tmp_path, info, formatting, row):
    path = info(x={"file_name": "x.jsonl", "formatting": formatting})
    assert texts(tmp_path, "x.jsonl", read_dataset_info(path).entry("x").row_format, row) == ["hi"]


def test_alpaca_is_the_default_formatting(tmp_path, info):
    path = info(x={"file_name": "x.jsonl"}, y={"file_name": "y.jsonl", "columns": {"prompt": "q", "query": "more"}})
    info = read_dataset_info(path)
    rows = [
        {"instruction": "Sum up", "input": "the text", "output": "…"},
        {"instruction": "Say hi", "input": ""},
        {"input": "only"},
        {"instruction": 3},
        {"instruction": " "},
    ]
    assert texts(tmp_path, "x.jsonl", info.entry("x").row_format, *rows) == [
        "Sum up\nthe text",
        "Say hi",
        "no-conversation",
        "malformed-turn",
        "empty-text",
    ]
    assert texts(tmp_path, "y.jsonl", info.entry("y").row_format, {"q": "a", "more": "b"}) == ["a\nb"]


def test_sources_are_found_by_name_and_by_path_and_others_keep_the_default(tmp_path, info, monkeypatch):
    monkeypatch.chdir(tmp_path)
    openai = {"formatting": "openai"}
    found = read_dataset_info(info(one={"file_name": "1.jsonl", **openai}, two={"file_name": "2.jsonl", **openai}))
    sources = mapped_sources(found, {"a": ["one"], "b": ["2.jsonl"], "c": ["elsewhere.jsonl", "more.csv"]})
    assert [paths for paths, _ in sources.values()] == [
        (tmp_path / "1.jsonl",),
        (tmp_path / "2.jsonl",),
        (Path("elsewhere.jsonl"), Path("more.csv")),
    ]
    assert [row_format and row_format.columns for _, row_format in sources.values()] == [
        ("messages",),
        ("messages",),
        None,
    ]
    with pytest.raises(UsageError, match="the sources of 'a' differently"):
        mapped_sources(found, {"a": ["one", "elsewhere.jsonl"]})
    with pytest.raises(UsageError, match=r"dataset_info\.json: describes none of the sources \(.*: one, two\)"):
        mapped_sources(found, {"a": ["three"]})


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        ("{", "not JSON"),
        ("[]", "not a JSON object"),
        ('{"x": 1}', "entry 'x' is not an object"),
        ('{"x": {"file_name": 1}}', "'file_name' is not a text"),
        ('{"x": {"file_name": "f", "formatting": "odd"}}', "entry 'x' has the unknown formatting 'odd'"),
        ('{"x": {"file_name": "f", "columns": []}}', "entry 'x': 'columns' is not an object"),
        ('{"x": {"file_name": "f", "tags": {"user_tag": 1}}}', "entry 'x': 'tags' is not an object"),
    ],
)
def test_a_file_that_makes_no_sense_is_named(tmp_path, content, complaint):
    (tmp_path / "info.json").write_text(content)
    with pytest.raises(DataRejectedError, match=rf"info\.json: .*{complaint}"):
        read_dataset_info(tmp_path / "info.json").find("x")
    with pytest.raises(MissingFileError, match=r"none\.json"):
        read_dataset_info(tmp_path / "none.json")


def test_an_entry_on_a_hub_says_how_to_name_it(info):
    with pytest.raises(UsageError, match=r"on a hub .*name it hf://datasets/a/b"):
        read_dataset_info(info(x={"hf_hub_url": "a/b"})).find("x")


def test_entries_that_nobody_asks_for_do_no_harm(tmp_path):
    content = {
        "$schema": "x",
        "odd": {"file_name": "o", "formatting": "mine"},
        "nulls": {"file_name": "n", "columns": None},
        "x": {"file_name": "x.jsonl", "columns": {"prompt": "q", "query": None}, "tags": None, "formatting": None},
    }
    (tmp_path / "info.json").write_text(json.dumps(content), encoding="utf-8-sig")
    entry = read_dataset_info(tmp_path / "info.json").find("x")
    assert (entry.file, entry.row_format.columns) == (tmp_path / "x.jsonl", ("q", "input"))
