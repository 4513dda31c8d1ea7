"""One promise for every PromptReader."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import orjson
import pytest

from adapters.datasets.prompt_files import PromptFileReader
from adapters.in_memory.prompts import InMemoryPromptReader
from application.ports import PromptReader
from domain.errors import DataRejectedError, MissingFileError

Fill = Callable[[Path, list[str]], PromptReader]


def in_memory(path: Path, prompts: list[str]) -> PromptReader:
    return InMemoryPromptReader({path: prompts})


def in_files(path: Path, prompts: list[str]) -> PromptReader:
    path.write_bytes(b"".join(orjson.dumps({"text": prompt}) + b"\n" for prompt in prompts))
    return PromptFileReader()


@pytest.fixture(params=[in_memory, in_files])
def fill(request: pytest.FixtureRequest) -> Fill:
    filled: Fill = request.param
    return filled


def test_prompts_come_back_in_order(fill: Fill, tmp_path):
    prompts = ["first", 'a "second"\nof two lines', "third \u2028 é 🦜"]
    assert fill(tmp_path / "p.jsonl", prompts).read_prompts(tmp_path / "p.jsonl") == prompts


def test_no_prompts_at_all_is_rejected_and_no_file_is_missing(fill: Fill, tmp_path):
    reader = fill(tmp_path / "p.jsonl", [])
    with pytest.raises(DataRejectedError, match=r"p\.jsonl: holds no prompts"):
        reader.read_prompts(tmp_path / "p.jsonl")
    with pytest.raises(MissingFileError, match=r"absent\.jsonl"):
        reader.read_prompts(tmp_path / "absent.jsonl")
