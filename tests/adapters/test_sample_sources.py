"""The packaged sample sources: their form, their variety, and that the answers fit the prompts."""

from __future__ import annotations

import datetime
import re
from collections import Counter
from typing import Any

import orjson
import pytest

from adapters.sample_sources import SAMPLE_TOOLS, sample_out_of_scope, sample_source, sample_sources
from domain.errors import UsageError
from domain.samples import normalise_text

NAMES = list(SAMPLE_TOOLS)
ANSWER = re.compile(r"<tool_call>\n(\{.*\})\n</tool_call>")
DAY_KEYS = ("date", "start", "end")


def rows(name: str) -> list[dict[str, Any]]:
    return [orjson.loads(line) for line in sample_source(name).read_bytes().splitlines()]


def text(row: dict[str, Any]) -> str:
    return str(row["conversations"][1]["value"]).removeprefix("<image>\n")


def call(row: dict[str, Any]) -> dict[str, Any]:
    match = ANSWER.fullmatch(row["conversations"][2]["value"])
    assert match, row["id"]
    parsed: dict[str, Any] = orjson.loads(match[1])
    return parsed


def shape(prompt: str) -> str:
    """Mask what fills a sentence's slots: numbers, days, months, and words with a capital inside the sentence."""
    masked = re.sub(r"\d[\d.,:/-]*(st|nd|rd|th)?", "#", prompt)
    masked = re.sub(r"(?<=\s)[A-Z][\w'-]*", "@", masked)
    months_and_days = (
        r"\b(jan|feb|mar|apr|may|june?|july?|aug|sep|oct|nov|dec|mon|tues|wednes|thurs|fri|satur|sun)\w*\b"
    )
    return " ".join(re.sub(r"[@#](\W+[@#])*", "_", re.sub(months_and_days, "@", masked.lower())).split())


def test_the_sources_are_those_of_the_three_default_adapters_in_label_order() -> None:
    assert list(sample_sources()) == ["calendar", "claim-window", "provider-select"]
    assert all(path.is_file() for path in sample_sources().values())
    assert sum(path.stat().st_size for path in sample_sources().values()) < 600_000


def test_an_unknown_adapter_is_refused_with_the_known_ones() -> None:
    with pytest.raises(UsageError, match=r"'weather'.*calendar, claim-window, provider-select"):
        sample_source("weather")


@pytest.mark.parametrize("name", NAMES)
def test_each_source_has_at_least_200_rows_with_unique_ids(name: str) -> None:
    ids = [row["id"] for row in rows(name)]
    assert len(ids) >= 200
    assert len(set(ids)) == len(ids)


def test_ids_are_unique_across_adapters() -> None:
    ids = [row["id"] for name in NAMES for row in rows(name)]
    assert len(set(ids)) == len(ids)


@pytest.mark.parametrize("name", NAMES)
def test_each_row_is_a_sharegpt_conversation_in_the_true_form(name: str) -> None:
    for row in rows(name):
        assert set(row) == {"id", "conversations"}
        assert [turn["from"] for turn in row["conversations"]] == ["system", "human", "gpt"]
        assert all(set(turn) == {"from", "value"} for turn in row["conversations"])
        assert SAMPLE_TOOLS[name] + "(" in row["conversations"][0]["value"]
        assert row["conversations"][1]["value"].startswith("<image>\n")
        assert "<image>" not in text(row)
        assert 2 <= len(text(row).split()) <= 40, text(row)


@pytest.mark.parametrize("name", NAMES)
def test_each_answer_calls_the_adapters_own_tool_with_arguments_of_its_schema(name: str) -> None:
    schema = rows(name)[0]["conversations"][0]["value"].split("(", 1)[1]
    known = {re.split(r"[?:]", part.strip(" )"))[0] for part in schema.split(",")}
    for row in rows(name):
        answer = call(row)
        assert set(answer) == {"name", "arguments"}
        assert answer["name"] == SAMPLE_TOOLS[name]
        assert "action" in answer["arguments"]
        assert set(answer["arguments"]) <= known, row["id"]


def test_no_text_stands_twice_within_or_across_adapters() -> None:
    seen = Counter(normalise_text(text(row)) for name in NAMES for row in rows(name))
    assert [prompt for prompt, count in seen.items() if count > 1] == []


@pytest.mark.parametrize("name", NAMES)
def test_prompts_are_varied(name: str) -> None:
    prompts = [text(row) for row in rows(name)]
    shapes = Counter(shape(prompt) for prompt in prompts)
    assert max(shapes.values()) <= 0.025 * len(prompts), shapes.most_common(3)
    assert len(shapes) >= 200
    assert len({prompt.lower().split()[0] for prompt in prompts}) >= 60  # ways to begin


def test_calendar_answers_carry_real_dates_that_agree_with_the_day_in_the_prompt() -> None:
    agreed = 0
    for row in rows("calendar"):
        arguments = call(row)["arguments"]
        days = [datetime.date.fromisoformat(arguments[key]) for key in DAY_KEYS if key in arguments]
        for weekday in re.findall(r"(\w+day)\b,? (?:the |[A-Z][a-z]+ )\d", text(row)):
            agreed += 1
            assert weekday.lower() in {f"{day:%A}".lower() for day in days}, text(row)
        if "start" in arguments:
            assert days[0] < days[1], text(row)
    assert agreed >= 8


def test_claim_values_come_from_the_prompt() -> None:
    for row in rows("claim-window"):
        arguments = call(row)["arguments"]
        if arguments["action"] != "set_field":
            continue
        prompt = text(row).lower().replace(",", "")
        value = arguments["value"].lower()
        is_converted = re.fullmatch(r"\d{4}-\d\d-\d\d|\d\d:\d\d", value)  # dates and times
        assert is_converted or all(word in prompt for word in value.split()), text(row)


def test_provider_names_and_numbers_come_from_the_prompt() -> None:
    for row in rows("provider-select"):
        arguments = call(row)["arguments"]
        prompt = text(row).lower()
        for key in ("provider", "npi", "text", "clinic", "city", "language", "day"):
            value = str(arguments.get(key, "")).lower()
            assert all(word.strip(",") in prompt for word in value.split()), text(row)


def test_out_of_scope_prompts_are_many_and_stand_nowhere_else():
    fit, held_out = (sample_out_of_scope(held_out=part).read_text().splitlines() for part in (False, True))
    known = {normalise_text(text(row)) for name in NAMES for row in rows(name)}
    everything = [normalise_text(prompt) for prompt in (*fit, *held_out)]
    assert min(len(fit), len(held_out)) > 90
    assert len(set(everything)) == len(everything)
    assert not known & set(everything)
    words = {"calendar", "provider", "doctor", "insurance"}  # those near an adapter, the hard ones, are among them
    assert all(any(word in prompt.casefold() for prompt in part) for part in (fit, held_out) for word in words)
