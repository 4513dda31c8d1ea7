"""Logs of answers and readers of prompts keep their contracts, in memory and on disk."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from adapters.answers.jsonl_answer_log import JsonlAnswerLog
from adapters.datasets.prompt_files import PromptFileReader
from adapters.in_memory.answers import InMemoryAnswerLog, InMemoryPromptRowReader
from application.ports.answer_files import PromptRow, fingerprint
from domain.answers import Answer, Prompt
from domain.chats import as_chat
from domain.errors import DataRejectedError, MissingFileError, TargetExistsError

ANSWER = Answer(None, "calendar", "why\nnot", 'said \u2028 "this"\nand that', 3, "stop")
ROWS = [PromptRow("a", Prompt(as_chat("one"))), PromptRow("b", Prompt(as_chat("two \u2028 lines")))]
A_IS_ONE = {fingerprint("a"): fingerprint("one")}


@pytest.fixture(params=["in-memory", "jsonl"])
def open_log(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[], Any]:
    """Opens a log on the same place again and again."""
    if request.param == "jsonl":
        return lambda: JsonlAnswerLog(tmp_path / "answers.jsonl")
    log = InMemoryAnswerLog()
    return lambda: log


def test_nothing_is_finished_at_first(open_log: Callable[[], Any]) -> None:
    assert dict(open_log().finished()) == {}


def test_what_was_appended_is_finished_in_every_later_log(open_log: Callable[[], Any]) -> None:
    open_log().append("a", "one", ANSWER)
    log = open_log()
    log.append("b", "two \u2028 lines", ANSWER)
    both = {fingerprint("a"): fingerprint("one"), fingerprint("b"): fingerprint("two \u2028 lines")}
    assert dict(log.finished()) == both
    assert dict(open_log().finished()) == both


def test_a_row_without_an_answer_is_not_finished(open_log: Callable[[], Any]) -> None:
    open_log().append_error("c", 3, DataRejectedError("too long"))
    open_log().append("a", "one", ANSWER)
    assert dict(open_log().finished()) == A_IS_ONE


def test_asking_changes_nothing(open_log: Callable[[], Any], tmp_path: Path) -> None:
    open_log().check()
    assert list(tmp_path.iterdir()) == []
    open_log().append("a", "one", ANSWER)
    before = [path.read_bytes() for path in tmp_path.iterdir()]
    open_log().check()
    assert dict(open_log().finished()) == A_IS_ONE
    assert [path.read_bytes() for path in tmp_path.iterdir()] == before


def test_one_run_at_a_time_answers_into_a_place(open_log: Callable[[], Any], tmp_path: Path) -> None:
    with open_log().held():
        with pytest.raises(TargetExistsError), open_log().held():
            pytest.fail("two runs")
        assert dict(open_log().finished()) == {}
    assert list(tmp_path.iterdir()) == []  # nothing was answered
    with open_log().held():
        open_log().append("a", "one", ANSWER)
    with open_log().held():
        assert dict(open_log().finished()) == A_IS_ONE


@pytest.fixture(params=["in-memory", "jsonl"])
def reader(request: pytest.FixtureRequest, tmp_path: Path) -> Any:
    """Reads ROWS from good.jsonl; empty.jsonl holds nothing."""
    files = {"good": ROWS, "empty": []}
    if request.param == "in-memory":
        return InMemoryPromptRowReader({tmp_path / f"{name}.jsonl": tuple(rows) for name, rows in files.items()})
    for name, rows in files.items():
        lines = [json.dumps({"id": row.id, "prompt": row.prompt.chat[0].content}) for row in rows]
        (tmp_path / f"{name}.jsonl").write_text("\n".join(lines))
    return PromptFileReader()


def test_rows_come_in_order_and_in_groups(reader: Any, tmp_path: Path) -> None:
    good = tmp_path / "good.jsonl"
    assert reader.can_be_read_again(good)
    assert list(reader.stream_prompt_rows(good)) == ROWS
    assert list(reader.group_prompt_rows(good, 1)) == [[row] for row in ROWS]
    assert list(reader.group_prompt_rows(good, 3)) == [ROWS]


def test_files_that_cannot_be_used(reader: Any, tmp_path: Path) -> None:
    for read in (reader.can_be_read_again, lambda path: list(reader.stream_prompt_rows(path))):
        with pytest.raises(MissingFileError):
            read(tmp_path / "none.jsonl")
    with pytest.raises(DataRejectedError, match="holds no prompts"):
        list(reader.stream_prompt_rows(tmp_path / "empty.jsonl"))
