"""A comparison asks everybody about every reference answer, once, and says what it could not ask."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from adapters.in_memory.answers import InMemoryAnswerEngine
from adapters.in_memory.datasets import InMemoryDatasetStore
from adapters.in_memory.runtime import RecordingProgressReporter
from adapters.in_memory.scoring import InMemoryAnswerScorer
from application.comparing.compare_adapters import CompareAdapters
from application.comparing.compare_report import CompareReport, CompareRequest
from domain.answers import GenerationOptions
from domain.chats import Chat, Message, routing_text
from domain.errors import DataRejectedError, MissingFileError, UsageError
from tests.answering_world import NOTHING, WORDS, small_route
from tests.dataset_world import NAMES, generate

OUT = Path("out")


def source(name: str) -> list[Any]:
    """Twenty prompts of the adapter's own words, the answer saying whose it is; one row has none."""
    words = WORDS[NAMES.index(name)]
    asked = [f"{one} {other}" for one in words for other in words if one != other]
    return [
        {
            "conversations": [
                {"from": "system", "value": "Be brief."},
                {"from": "human", "value": text},
                *([{"from": "gpt", "value": f"{name}: {text}"}] if number else []),
            ]
        }
        for number, text in enumerate(asked)
    ]


def skill(weights: dict[str, str]) -> Any:
    """Nats per token of a scorer whose folder `name` holds the weights ``weights[name]``."""

    def per_token(adapter: str | None, chat: Chat, answer: Message) -> float:
        hard = 0.01 * (len(routing_text(chat)) % 7) + (0.5 if chat[0].role == "system" else 0)
        if adapter is None:
            return 2.0 + hard
        return (0.4 if answer.content.startswith(f"{weights[adapter]}:") else 1.5) + hard

    return per_token


def world(weights: dict[str, str] | None = None, **options: Any) -> tuple[CompareAdapters, InMemoryAnswerScorer]:
    weights = weights or {name: name for name in NAMES}
    _, store = generate({name: source(name) for name in NAMES}, train_samples=8, eval_samples=12)
    scorer = InMemoryAnswerScorer(tuple(weights), skill(weights))
    return CompareAdapters(store, scorer, RecordingProgressReporter(), **options), scorer


def compare(weights: dict[str, str] | None = None, **options: Any) -> CompareReport:
    return world(weights, **options)[0](CompareRequest(OUT))


def test_sound_adapters_and_a_sound_router() -> None:
    report = compare(route=small_route())
    found, gain = report.adapters, report.gain
    assert gain is not None
    assert (found.swapped, found.outdone, found.no_better, found.alike) == ((), (), (), ())
    assert sum(found.counts.values()) == 36 - sum(report.lacking.values())
    assert all(row.chosen == row.adapter for row in report.rows)
    assert gain.captured.value == pytest.approx(1)
    assert "Routing pays" in report.verdict


def test_swapped_folders_are_found_and_named() -> None:
    report = compare({"calendar": "claim-window", "claim-window": "calendar", "provider-select": "provider-select"})
    assert report.adapters.swapped == (("calendar", "claim-window"),)
    assert report.verdict.startswith("calendar and claim-window seem to be swapped")
    assert report.gain is None


def test_a_duplicated_adapter_is_interchangeable() -> None:
    weights = {"calendar": "calendar", "claim-window": "claim-window", "provider-select": "provider-select"}
    report = compare(weights | {"copy": "calendar"})
    assert [(pair.one, pair.other) for pair in report.adapters.alike] == [("calendar", "copy")]
    both = compare({"calendar": "calendar", "claim-window": "calendar", "provider-select": "provider-select"})
    assert both.adapters.outdone == ()
    assert both.adapters.no_better == ()  # it is better than the base model there, too


def test_everybody_is_asked_once_without_the_rows_system_turns() -> None:
    run, scorer = world()
    report = run(CompareRequest(OUT, samples=3))
    assert report.adapters.counts == dict.fromkeys(NAMES, 3)
    assert len(scorer.requests) == 9 * 4
    assert len({(one.adapter, one.chat) for one in scorer.requests}) == 36
    assert {turn.role for one in scorer.requests for turn in one.chat} == {"user"}
    run(CompareRequest(OUT, samples=3, own_system=True))
    assert scorer.requests[-1].chat[0] == Message("system", "Be brief.")
    assert isinstance(run.progress, RecordingProgressReporter)


def test_a_router_that_abstains_answers_with_the_base_model() -> None:
    report = compare(route=small_route(NOTHING))
    gain = report.gain
    assert gain is not None
    assert gain.abstention.count == len(report.rows)
    assert gain.over_base.value == pytest.approx(0)
    assert gain.abstention.cost == pytest.approx(1.6)
    assert gain.best_choices == 1


def test_generated_answers_are_compared() -> None:
    run, _ = world(route=small_route(), engine=InMemoryAnswerEngine(NAMES))
    report = run(CompareRequest(OUT, generation=GenerationOptions(max_new_tokens=20)))
    matches = report.matches
    assert matches is not None
    assert matches.router is not None  # its answers are "<adapter>: <prompt>", the reference answers
    assert (matches.router.value, matches.by_label.value) == (1.0, 1.0)
    assert {name: {who: one.value for who, one in rates.items()} for name, rates in matches.rates.items()} == {
        name: {who: float(who == name) for who in ("base", *NAMES)} for name in NAMES
    }
    assert report.rows[0].answers[0].startswith("base: ")


def test_what_cannot_be_scored_is_said() -> None:
    run, _ = world()
    store = run.datasets
    assert isinstance(store, InMemoryDatasetStore)
    lines = store.folders[OUT]["eval-answers.jsonl"].splitlines()
    lines[0] = lines[0].replace(b'"answer":"', b'"answer":"' + b"x" * 11_000)
    store.folders[OUT]["eval-answers.jsonl"] = b"\n".join(lines)
    report = run(CompareRequest(OUT))
    (lost,) = report.unscored
    assert lost.problem == "the answer is too long for this base model"
    assert len(report.rows) == len(lines) - 1


def test_refusals() -> None:
    with pytest.raises(UsageError, match="samples 0"):
        CompareRequest(OUT, samples=0)
    with pytest.raises(UsageError, match="no LoRA adapter provider-select"):
        compare({"calendar": "calendar", "claim-window": "claim-window"})
    run, scorer = world()
    with pytest.raises(MissingFileError):
        run(CompareRequest(Path("nowhere")))
    store = run.datasets
    assert isinstance(store, InMemoryDatasetStore)
    store.folders[OUT]["eval-answers.jsonl"] = store.folders[OUT]["eval-answers.jsonl"].replace(
        b'"answer":"', b'"answer":"' + b"x" * 11_000
    )
    with pytest.raises(DataRejectedError, match="none of"):
        run(CompareRequest(OUT))
    del store.folders[OUT]["eval-answers.jsonl"]
    with pytest.raises(MissingFileError, match="no reference answers"):
        run(CompareRequest(OUT))
    assert scorer.adapters == NAMES
