"""Held-out rows keep the answers of their source rows, through everything that is done with a data set."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from adapters.in_memory.datasets import InMemoryDatasetStore, InMemorySourceReader
from adapters.in_memory.publishing import InMemoryDatasetFolders, InMemoryRemoteDatasetStore
from adapters.in_memory.runtime import FixedClock, RecordingProgressReporter
from application.datasets.dataset_request import GenerateReport
from application.datasets.grow_dataset import AddToDataset, RemoveFromDataset
from application.datasets.verify_dataset import VerifyDataset
from application.ports.datasets import Source
from application.publishing.download import DownloadDataset, DownloadRequest
from application.publishing.publish_dataset import PlanPublication, PublishDataset, PublishRequest, Transfer
from domain.chats import Message
from domain.errors import DataRejectedError, MissingFileError
from domain.publishing import ANSWERS_FILE
from domain.split import Split
from tests.dataset_world import NAMES, generate, path_of

OUT, NEW = Path("out"), Path("new")


def rows(name: str, count: int = 30) -> list[Any]:
    """Rows with an answer, every tenth without one."""
    return [
        {
            "id": f"{name}{number}",
            "conversations": [
                {"from": "system", "value": "Be brief."},
                {"from": "human", "value": f"<image>{name} prompt {number}"},
                *([{"from": "gpt", "value": f" answer {number} ü\u2028x"}] if number % 10 else []),
            ],
        }
        for number in range(count)
    ]


def made(**options: Any) -> tuple[GenerateReport, InMemoryDatasetStore]:
    report, store = generate({name: rows(name) for name in NAMES}, eval_samples=12, **options)
    return report, store


def checks(store: InMemoryDatasetStore, folder: Path = OUT) -> dict[str, tuple[str, str]]:
    return {one.name: (str(one.outcome), one.detail) for one in VerifyDataset(store)(folder).checks}


def test_answers_stand_in_the_order_of_the_held_out_rows() -> None:
    report, store = made()
    answers = store.read_answers(OUT)
    held_out = store.read_rows(OUT / "eval.jsonl")
    texts = [row.text for row in held_out if int(row.text.split()[-1]) % 10]
    assert [one.text for one in answers] == texts
    first = answers[0]
    number = first.text.split()[-1]
    assert first.chat == (Message("system", "Be brief."), Message("user", first.text))
    assert (first.answer, first.source_id) == (
        Message("assistant", f"answer {number} ü\u2028x"),
        f"{first.adapter}{number}",
    )
    counts = {name: sum(one.adapter == name for one in answers) for name in NAMES}
    assert report.n_answers == counts == store.read_metadata(OUT)["reference_answers"]
    assert ANSWERS_FILE in store.read_metadata(OUT)["files"]
    assert all(outcome == "passed" for outcome, _ in checks(store).values())


@pytest.mark.parametrize("options", [{"answers": False}, {"eval_samples": 0}])
def test_without_answers_all_other_rows_are_the_same(options: dict[str, Any]) -> None:
    with_answers = generate({name: rows(name) for name in NAMES}, eval_samples=options.get("eval_samples", 12))[1]
    report, without = generate({name: rows(name) for name in NAMES}, **{"eval_samples": 12, **options})
    assert ANSWERS_FILE not in without.folders[OUT]
    assert report.n_answers == {}
    for name in ("train.jsonl", "val.jsonl", "data.jsonl"):
        assert without.folders[OUT][name] == with_answers.folders[OUT][name]
    assert VerifyDataset(without)(OUT).passed
    with pytest.raises(MissingFileError, match="no reference answers"):
        without.read_answers(OUT)


def grown(store: InMemoryDatasetStore) -> None:
    reader = InMemorySourceReader({path_of("billing"): rows("billing")})
    AddToDataset(reader, store, FixedClock())(
        OUT, Source("billing", path_of("billing")), output_dir=NEW, tool_version="1"
    )


def test_growing_and_shrinking_keep_the_answers_of_the_rows_that_stay() -> None:
    _, store = made()
    grown(store)
    old, new = store.read_answers(OUT), store.read_answers(NEW)
    assert {one.adapter for one in new} == {*NAMES, "billing"}
    assert [one for one in old if one not in new] == []
    assert VerifyDataset(store)(NEW).passed
    RemoveFromDataset(store, FixedClock())(NEW, "billing", output_dir=Path("less"), tool_version="1")
    assert sorted(old, key=str) == sorted(store.read_answers(Path("less")), key=str)
    assert VerifyDataset(store)(Path("less")).passed


def test_a_data_set_without_answers_grows_without() -> None:
    _, store = made(answers=False)
    grown(store)
    assert ANSWERS_FILE not in store.folders[NEW]
    assert VerifyDataset(store)(NEW).passed
    assert {row.adapter for row in store.read_rows(NEW / f"{Split.EVAL}.jsonl")} == {*NAMES, "billing"}


def edited(store: InMemoryDatasetStore, change: Any) -> tuple[str, str]:
    lines = [json.loads(line) for line in store.folders[OUT][ANSWERS_FILE].splitlines()]
    change(lines)
    store.folders[OUT][ANSWERS_FILE] = b"".join(json.dumps(line).encode() + b"\n" for line in lines)
    return checks(store)["reference answers belong to held-out rows"]


@pytest.mark.parametrize(
    ("change", "what"),
    [
        (lambda lines: lines[0].update(text="another"), "'another' of"),
        (lambda lines: lines.append(lines[0]), "has 2 answers"),
        (lambda lines: lines.pop(), "recorded are"),
        (lambda lines: lines[0].update(answer=" "), "line 1: the answer says nothing"),
        (lambda lines: lines[0].pop("messages"), "line 1: the conversation is not"),
        (lambda lines: lines[0].update(answer=3), "line 1: 'answer' is not a text"),
    ],
)
def test_verify_finds_answers_that_do_not_belong(change: Any, what: str) -> None:
    _, store = made()
    outcome, detail = edited(store, change)
    assert outcome == "failed"
    assert what in detail
    assert checks(store)["contents match the manifest"][0] == "failed"


def test_damaged_answers_are_refused_by_line() -> None:
    _, store = made()
    store.folders[OUT][ANSWERS_FILE] += b"{\n"
    with pytest.raises(DataRejectedError, match=r"eval-answers.jsonl: line"):
        store.read_answers(OUT)


def published(store: InMemoryDatasetStore, there: InMemoryRemoteDatasetStore, **options: Any) -> dict[str, Transfer]:
    plan = PlanPublication(InMemoryDatasetFolders({OUT: store.folders[OUT]}))(PublishRequest(OUT, **options))
    return PublishDataset(there, RecordingProgressReporter())(plan).files


def test_answers_are_published_when_asked_and_stay_until_others_come() -> None:
    _, store = made()
    there = InMemoryRemoteDatasetStore()
    assert ANSWERS_FILE not in published(store, there)
    assert published(store, there, answers=True)[ANSWERS_FILE] is Transfer.UPLOADED
    assert ANSWERS_FILE not in published(store, there)
    assert f"datasets/out/{ANSWERS_FILE}" in there.files
    assert published(store, there, force=True)[ANSWERS_FILE] is Transfer.REMOVED
    without = made(answers=False)[1]
    with pytest.raises(MissingFileError, match="answers"):
        published(without, there, answers=True)


@pytest.mark.parametrize("answers", [True, False])
def test_a_download_brings_the_answers_that_are_there(answers: bool) -> None:
    _, store = made()
    there = InMemoryRemoteDatasetStore()
    published(store, there, answers=answers)
    folders = InMemoryDatasetFolders()
    DownloadDataset(folders, there, RecordingProgressReporter())(DownloadRequest("out", NEW))
    assert (ANSWERS_FILE in folders.received[NEW]) is answers
    copy = InMemoryDatasetStore({NEW: dict(folders.received[NEW])})
    found = checks(copy, NEW)
    assert found["reference answers belong to held-out rows"][0] == ("passed" if answers else "skipped")
    assert "failed" not in {outcome for outcome, _ in found.values()}
