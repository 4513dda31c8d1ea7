from __future__ import annotations

import io
import sys
from pathlib import Path

import pytest

from adapters.datasets import prompt_files
from adapters.datasets.prompt_files import PromptFileReader
from domain.errors import DataRejectedError, MissingFileError

LINES = b"""\xef\xbb\xbf{"text": "one", "label": 0}
{"prompt": "two"}\r
"three"

{"conversations": [{"from": "system", "value": "s"}, {"from": "human", "value": "<image>four"}]}
{"messages": [{"role": "user", "content": [{"type": "text", "text": "five"}]}]}"""


def read(path: Path, content: bytes) -> list[str]:
    path.write_bytes(content)
    return PromptFileReader().read_prompts(path)


def test_every_form_of_a_row_is_understood(tmp_path):
    assert read(tmp_path / "p.jsonl", LINES) == ["one", "two", "three", "four", "five"]


def test_plain_text_is_one_prompt_a_line(tmp_path):
    content = 'book a flight\n\n  {not json\n"quoted" but plain\n{"text": "row"}\nsplit \u2028 not\n'.encode()
    assert read(tmp_path / "p.txt", content) == [
        "book a flight", "{not json", '"quoted" but plain', "row", "split \u2028 not",
    ]  # fmt: skip


def test_standard_input_is_read_for_a_dash(monkeypatch):
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"a\nb\n")))
    assert PromptFileReader().read_prompts(Path("-")) == ["a", "b"]


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (b"not json", r"p\.jsonl:2: is not a JSON value .*one per line"),
        (b"[1]", "p.jsonl:2: the row is a list, not an object or a string"),
        (b'{"text": 3}', "p.jsonl:2: the conversation is not a non-empty list"),
        (b'{"text": null, "id": 1}', "p.jsonl:2: the row has no 'prompt', 'text'"),
        (b'{"text": " "}', "p.jsonl:2: the prompt has no text"),
        (b'"\xff"', "p.jsonl:2: is not UTF-8 text"),
        (b'{"conversations": [{"from": "gpt", "value": "x"}]}', "p.jsonl:2: the prompt has no text to route on"),
    ],
)
def test_a_bad_line_is_named(tmp_path, bad, message):
    with pytest.raises(DataRejectedError, match=message):
        read(tmp_path / "p.jsonl", b'{"text": "fine"}\n' + bad + b"\n")


def test_a_folder_is_not_a_file(tmp_path):
    with pytest.raises(MissingFileError, match="is a folder"):
        PromptFileReader().read_prompts(tmp_path)


def test_lines_are_read_one_by_one_and_have_a_limit(tmp_path, monkeypatch):
    monkeypatch.setattr(prompt_files, "LINE_LIMIT", 10)
    path = tmp_path / "p.txt"
    path.write_text("0123456789\nshort\n0123456789a\nnever\n")
    found = PromptFileReader().stream_prompt_rows(path)
    assert [next(found).prompt.chat[0].content for _ in range(2)] == ["0123456789", "short"]
    with pytest.raises(DataRejectedError, match=r"p\.txt:3: is longer than"):
        next(found)
    with pytest.raises(DataRejectedError, match="zero:1: is longer than"):
        PromptFileReader().read_prompts(Path("/dev/zero"))
