"""Column and tag mappings of LLaMA-Factory, read from its own file."""

import json
from pathlib import Path

import pytest

from adapters.datasets.jsonl_source_reader import JsonlSourceReader
from adapters.datasets.llamafactory_dataset_info import mapped_sources, read_dataset_info
from application.ports.datasets import Source
from domain.conversations import DEFAULT_FORMAT, Rejection
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
    with JsonlSourceReader().read_all(Source("a", folder / source, row_format)) as lines:
        return [str(one.reason) if isinstance(one, Rejection) else one for _, one in lines]


def test_sharegpt_with_other_columns_and_tags(tmp_path, info):
    path = info(
        mine={
            "file_name": "mine.jsonl",
            "formatting": "sharegpt",
            "columns": {"messages": "chat", "images": "pictures"},
            "tags": {"role_tag": "who", "content_tag": "said", "user_tag": "Customer", "assistant_tag": "clerk"},
        }
    )
    entry = read_dataset_info(path).entries["mine"]
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
    assert texts(tmp_path, "x.jsonl", read_dataset_info(path).entries["x"].row_format, row) == ["hi"]


def test_alpaca_is_the_default_formatting(tmp_path, info):
    path = info(x={"file_name": "x.jsonl"}, y={"file_name": "y.jsonl", "columns": {"prompt": "q", "query": "more"}})
    entries = read_dataset_info(path).entries
    rows = [
        {"instruction": "Sum up", "input": "the text", "output": "…"},
        {"instruction": "Say hi", "input": ""},
        {"input": "only"},
        {"instruction": 3},
        {"instruction": " "},
    ]
    assert texts(tmp_path, "x.jsonl", entries["x"].row_format, *rows) == [
        "Sum up\nthe text",
        "Say hi",
        "no-conversation",
        "malformed-turn",
        "empty-text",
    ]
    assert texts(tmp_path, "y.jsonl", entries["y"].row_format, {"q": "a", "more": "b"}) == ["a\nb"]


def test_sources_are_found_by_name_and_by_path_and_others_keep_the_default(tmp_path, info, monkeypatch):
    monkeypatch.chdir(tmp_path)
    openai = {"formatting": "openai"}
    found = read_dataset_info(info(one={"file_name": "1.jsonl", **openai}, two={"file_name": "2.jsonl", **openai}))
    sources = mapped_sources(found, {"a": "one", "b": "2.jsonl", "c": "elsewhere.jsonl"})
    assert [path for path, _ in sources.values()] == [
        tmp_path / "1.jsonl",
        tmp_path / "2.jsonl",
        Path("elsewhere.jsonl"),
    ]
    assert [row_format.columns for _, row_format in sources.values()] == [
        ("messages",),
        ("messages",),
        DEFAULT_FORMAT.columns,
    ]
    with pytest.raises(UsageError, match=r"dataset_info\.json: describes none of the sources \(.*: one, two\)"):
        mapped_sources(found, {"a": "three"})


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        ("{", "no JSON"),
        ("[]", "no JSON object"),
        ('{"x": 1}', "entry 'x' is no object"),
        ('{"x": {"file_name": 1}}', "'file_name' is no text"),
        ('{"x": {"file_name": "f", "formatting": "odd"}}', "entry 'x' has the unknown formatting 'odd'"),
        ('{"x": {"file_name": "f", "columns": []}}', "entry 'x': 'columns' is no object"),
        ('{"x": {"file_name": "f", "tags": {"user_tag": 1}}}', "entry 'x': 'tags' is no object"),
    ],
)
def test_a_file_that_makes_no_sense_is_named(tmp_path, content, complaint):
    (tmp_path / "info.json").write_text(content)
    with pytest.raises(DataRejectedError, match=rf"info\.json: .*{complaint}"):
        read_dataset_info(tmp_path / "info.json")
    with pytest.raises(MissingFileError, match=r"none\.json"):
        read_dataset_info(tmp_path / "none.json")


def test_entries_on_a_hub_are_passed_over(info):
    assert read_dataset_info(info(x={"hf_hub_url": "a/b"})).entries == {}
