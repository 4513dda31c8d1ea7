"""What is suggested where the first rows give no prompt fits the rows, and is taken as it is written."""

from __future__ import annotations

from typing import Any

import pytest

from domain.conversations import DEFAULT_FORMAT, extract_prompt
from domain.row_shapes import columns_format, suggest_columns
from entrypoints.cli.source_options import make_sources

ASK = ("Say which holds the prompt", ("prompt=COLUMN",))
NAMES = "messages=dialog,role=who,content=said"


def talk(*speakers: str) -> list[dict[str, str]]:
    return [{"who": speaker, "said": f"open May {n}"} for n, speaker in enumerate(speakers)]


def chat(*speakers: str) -> dict[str, Any]:
    return {"messages": [{"role": speaker, "content": "open May 3"} for speaker in speakers]}


def suggested(*rows: dict[str, Any]) -> tuple[str, tuple[str, ...]]:
    return suggest_columns(rows, DEFAULT_FORMAT)


def test_objects_that_are_no_turns_are_not_taken_for_some() -> None:
    pages = [{"title": f"Orders {n}", "url": f"http://orders/{n}"} for n in range(8)]
    rows = [{"customer_text": "where is order 1", "sources": pages[n : n + 2]} for n in range(0, 8, 2)]
    assert suggested(*rows) == ASK
    kinds = [{"customer_text": "where", "sources": [{"kind": "doc", "url": f"u{n}"}] * 2} for n in range(4)]
    assert suggested(*kinds) == ASK


def test_the_column_that_fits_best_is_suggested() -> None:
    tags = [{"k": "lang", "v": "en"}, {"k": "topic", "v": "pay"}]
    row = {"tags": tags, "dialog": talk("Student", "Desk")}
    assert suggested(row, row)[1] == (f"{NAMES},user=Student,assistant=Desk",)
    row = {"tags": tags, "case": talk("Customer", "Desk")}  # a name that is known
    assert suggested(row, row, row)[1] == (f"{NAMES.replace('dialog', 'case')},assistant=Desk",)


def test_a_third_speaker_is_not_made_the_assistant() -> None:
    what, choices = suggested(chat("user", "moderator", "assistant"))
    assert "'moderator' are of an unknown speaker" in what
    assert choices == ("messages=messages,user=moderator", "messages=messages,assistant=moderator")
    for choice in choices:
        named = columns_format(dict(pair.split("=") for pair in choice.split(",")))
        assert extract_prompt(chat("user", "moderator", "assistant"), named) == "open May 3"
    named = columns_format({"messages": "messages", "user": "Student", "assistant": "Tutor"})
    what, choices = suggest_columns([chat("Student", "Tutor", "Guest")], named)
    assert what.startswith("The turns of 'Guest' cannot be read")
    assert choices == ()


def test_two_unknown_speakers_are_a_guess_and_one_is_not() -> None:
    assert suggested(chat("Student", "Desk")) == (
        "Say what its turns are called (who asks is a guess)", ("messages=messages,user=Student,assistant=Desk",),
    )  # fmt: skip
    assert suggested(chat("user", "Desk")) == ("Say what its turns are called", ("messages=messages,assistant=Desk",))


@pytest.mark.parametrize("prefix", ["it:", ""])
def test_names_with_colons_are_taken_as_they_are_suggested(prefix: str) -> None:
    row = {"dialog": talk("Student:", "Tutor:")}
    ((choice,)) = suggested(row, row)[1]
    assert choice == f"{NAMES},user=Student:,assistant=Tutor:"
    (source,) = make_sources({"it": ["x.jsonl"]}, columns=[prefix + choice])
    assert extract_prompt(row, source.format) == "open May 0"


def test_no_name_with_a_comma_is_suggested() -> None:
    assert suggested(chat("Smith, J", "Desk"))[1] == ("messages=messages,assistant=Desk",)
    what, choices = suggested(chat("Smith, J", "assistant"))
    assert "'Smith, J' cannot be read" in what
    assert choices == ()
    assert suggested({"my, dialog": talk("user", "assistant")}) == ASK
