"""Files of prompts: every prompt answered once, however often the run was cut off."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
from attrs import evolve

from adapters.answers.jsonl_answer_log import JsonlAnswerLog
from adapters.datasets.prompt_files import PromptFileReader
from adapters.in_memory.answers import InMemoryAnswerEngine, InMemoryAnswerLog
from adapters.in_memory.features import InMemoryFeatureExtractor
from adapters.in_memory.runtime import RecordingProgressReporter
from application.answering.answer_file import FAILURES, AnswerFile, AnswerFileReport, AnswerFileRequest
from application.answering.answer_prompts import AnswerPrompts
from domain.errors import DataRejectedError, MissingFileError
from domain.labels import DEFAULT_LABELS
from domain.routing import AbstentionThresholds
from entrypoints.reports.answers import failure_lines
from tests.answering_world import ANYTHING, NOTHING, small_route


class _InterruptedError(Exception):
    pass


class _BreakingEngine(InMemoryAnswerEngine):
    """Breaks after some answers, as a killed process does."""

    left = 10**9

    def generate(self, *arguments: Any) -> Any:
        for each in super().generate(*arguments):
            if self.left == 0:
                raise _InterruptedError
            self.left -= 1
            yield each


def answer(
    source: Path, output: Path, after: int = 10**9, thresholds: AbstentionThresholds = ANYTHING
) -> tuple[AnswerFileReport, _BreakingEngine]:
    engine = _BreakingEngine(DEFAULT_LABELS.names)
    engine.left = after
    answering = AnswerPrompts(small_route(thresholds), engine)
    run = AnswerFile(PromptFileReader(), JsonlAnswerLog(output), lambda: answering, RecordingProgressReporter())
    return run(AnswerFileRequest(source)), engine


@pytest.fixture
def source(tmp_path: Path) -> Path:
    rows = [
        {"id": "a", "prompt": "book a table"},
        {"id": 7, "text": "claim the window"},
        {"messages": [{"role": "user", "content": "pick a doctor"}]},
        {"id": "d", "conversations": [{"from": "human", "value": "<image>\nfile the claim"}]},
    ]
    path = tmp_path / "prompts.jsonl"
    path.write_text("\n".join(json.dumps(row) for row in rows) + '\n\n"near the provider"')
    return path


def rows_of(path: Path) -> dict[str, Any]:
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    assert len({row["id"] for row in rows}) == len(rows)
    return {row["id"]: row for row in rows}


def said(path: Path) -> dict[str, Any]:
    """Everything but the figures, which differ between batches in their last digits."""
    keys = ("prompt", "adapter", "fallback", "answer", "tokens", "finish")
    return {row_id: [row[key] for key in keys] for row_id, row in rows_of(path).items()}


def test_every_row_is_answered(source: Path, tmp_path: Path) -> None:
    report, _ = answer(source, tmp_path / "new" / "answers.jsonl")
    rows = rows_of(tmp_path / "new" / "answers.jsonl")
    assert set(rows) == {"a", "7", "3", "d", "6"}
    assert rows["d"]["answer"] == "claim-window: file the claim"
    assert rows["3"]["decision"]["adapter"] == rows["3"]["adapter"] == "provider-select"
    assert (report.total, report.skipped, report.fallbacks) == (5, 0, 0)
    assert report.by_adapter == {"calendar": 1, "claim-window": 2, "provider-select": 2}


@pytest.mark.parametrize("after", [0, 2])
def test_the_report_counts_the_tokens_and_fallbacks_of_its_own_run(source: Path, tmp_path: Path, after: int) -> None:
    output = tmp_path / "answers.jsonl"
    with pytest.raises(_InterruptedError):
        answer(source, output, after)
    earlier = rows_of(output) if output.exists() else {}
    report, _ = answer(source, output, thresholds=NOTHING)
    mine = [row for row_id, row in rows_of(output).items() if row_id not in earlier]
    assert (report.skipped, report.by_adapter, report.fallbacks) == (after, {"base": 5 - after}, 5 - after)
    assert report.tokens == sum(len(row["answer"].split(" ")) for row in mine)  # a word is a token of this engine


@pytest.mark.parametrize("after", range(5))
@pytest.mark.parametrize("torn", [b"", b'{"id":"a","pro'])
def test_interrupted_and_resumed_is_uninterrupted(source: Path, tmp_path: Path, after: int, torn: bytes) -> None:
    answer(source, tmp_path / "whole.jsonl")
    output = tmp_path / "answers.jsonl"
    with pytest.raises(_InterruptedError):
        answer(source, output, after)
    with output.open("ab") as file:
        file.write(torn)
    report, engine = answer(source, output)
    assert (report.skipped, len(engine.requests)) == (after, 5 - after)
    assert said(output) == said(tmp_path / "whole.jsonl")
    report, engine = answer(source, output)
    assert (report.skipped, engine.requests) == (5, [])


def test_who_answers_hears_at_once_that_a_run_was_interrupted_between_two_answers(source: Path) -> None:
    class Log(InMemoryAnswerLog):
        def append(self, *_answer: Any) -> None:
            raise SystemExit(130)  # as a signal

    class Elsewhere(AnswerPrompts):
        def stream(self, request: Any) -> Any:
            try:
                yield from super().stream(request)
            finally:
                heard.append(sys.exception())

    heard: list[object] = []
    answering = Elsewhere(small_route(ANYTHING), InMemoryAnswerEngine(DEFAULT_LABELS.names))
    with pytest.raises(SystemExit) as interrupted:
        AnswerFile(PromptFileReader(), Log(), lambda: answering, RecordingProgressReporter())(
            AnswerFileRequest(source)
        )
    assert interrupted.value.code == 130  # while the error is at hand, so is the frame that asked for answers
    assert [type(each) for each in heard] == [GeneratorExit]


def test_a_run_that_goes_on_routes_the_same_prompts_together(source: Path, tmp_path: Path) -> None:
    """Figures differ between batches in their last digits: here they tell how many prompts were routed at once."""

    class BatchDependent(InMemoryFeatureExtractor):
        def extract(self, texts: Any, taps: Any) -> Any:
            return super().extract(texts, taps) * (1 + len(texts) / 100)

    def run(output: Path, after: int = 10**9) -> None:
        route, engine = small_route(), _BreakingEngine(DEFAULT_LABELS.names)
        engine.left = after
        answering = AnswerPrompts(evolve(route, features=BatchDependent()), engine)
        log = JsonlAnswerLog(output)
        AnswerFile(PromptFileReader(), log, lambda: answering, RecordingProgressReporter())(AnswerFileRequest(source))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("application.answering.answer_prompts.GROUP", 2)
        run(tmp_path / "whole.jsonl")
        for after in range(1, 5):
            output = tmp_path / f"{after}.jsonl"
            with pytest.raises(_InterruptedError):
                run(output, after)
            run(output)
            assert rows_of(output) == rows_of(tmp_path / "whole.jsonl")


def test_an_id_with_another_prompt_is_refused(source: Path, tmp_path: Path) -> None:
    answer(source, tmp_path / "answers.jsonl")
    source.write_text('{"id": "a", "prompt": "another"}')
    with pytest.raises(DataRejectedError, match="id 'a' was answered before, with another prompt"):
        answer(source, tmp_path / "answers.jsonl")


@pytest.mark.parametrize("content", ["my notes", "my notes\n", '{"x": 1}\n', '{"id": 1, "prompt": "a"}\n'])
def test_a_file_that_holds_no_answers_is_left_alone(source: Path, tmp_path: Path, content: str) -> None:
    output = tmp_path / "notes.txt"
    output.write_text(content)
    with pytest.raises(DataRejectedError):
        answer(source, output)
    assert output.read_text() == content


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "holds no prompts"),
        ("{", r"prompts\.jsonl:1: is not a JSON value"),
        ("[]", "is a list, not an object or a string"),
        ('{"id": "a"}', "no 'prompt', 'text'"),
        ('{"prompt": "<image>"}', "no text to route on"),
        ('{"messages": [{"role": "assistant", "content": "hi"}]}', "no text to route on"),
        ('{"messages": [{"role": "martian", "content": "hi"}]}', "unknown speaker"),
        ('{"prompt": "a", "images": "x.png"}', "not a list of paths"),
        ('{"prompt": "a", "id": 1.5}', "neither a string nor a whole number"),
        ('{"id": "1", "prompt": "a"}\n{"id": 1, "prompt": "b"}', r"prompts\.jsonl:2: id '1' comes twice"),
    ],
)
def test_bad_rows(tmp_path: Path, content: str, message: str) -> None:
    (tmp_path / "prompts.jsonl").write_text(content)
    with pytest.raises(DataRejectedError, match=message):
        answer(tmp_path / "prompts.jsonl", tmp_path / "answers.jsonl")
    with pytest.raises(MissingFileError):
        answer(tmp_path / "none.jsonl", tmp_path / "answers.jsonl")
    assert not (tmp_path / "answers.jsonl").exists()


def test_image_paths_are_relative_to_the_file(tmp_path: Path) -> None:
    (tmp_path / "prompts.jsonl").write_text('{"prompt": "a", "images": ["x.png", "/tmp/y.png"]}')
    (row,) = PromptFileReader().stream_prompt_rows(tmp_path / "prompts.jsonl")
    assert row.prompt.images == (tmp_path / "x.png", Path("/tmp/y.png"))


def test_a_row_that_cannot_be_answered_touches_no_other_and_is_tried_again(tmp_path: Path) -> None:
    source, output = tmp_path / "prompts.jsonl", tmp_path / "answers.jsonl"
    good, picture = {"id": "a", "prompt": "book a table"}, {"id": "p", "prompt": "what is it", "images": ["x.png"]}
    lines = [
        json.dumps(good),
        "{not json",
        json.dumps(picture),
        json.dumps({"id": "z", "prompt": "claim the window"}),
    ]
    source.write_text("\n".join(lines))
    report, _ = answer(source, output)
    assert (report.total, sum(report.by_adapter.values())) == (4, 2)
    assert [(row.id, row.line) for row in report.failed] == [("2", 2), ("p", 3)]
    kept = rows_of(output)
    assert kept["2"]["error"].startswith("is not a JSON value")
    assert "sees no images" in kept["p"]["error"]
    assert kept["a"]["answer"]
    source.write_text("\n".join([lines[0], json.dumps({"prompt": "pick a doctor"}), *lines[2:]]))
    report, _ = answer(source, output)
    assert (report.skipped, sum(report.by_adapter.values()), len(report.failed)) == (2, 1, 1)


class _Piped(PromptFileReader):
    """Reads a file as if it were a pipe: once, and as its lines come."""

    taken = 0

    def can_be_read_again(self, path: Path) -> bool:
        return False

    def group_prompt_rows(self, path: Path, size: int) -> Any:
        for group in super().group_prompt_rows(path, size):
            self.taken += len(group)
            yield group


def test_no_more_rows_are_held_than_were_asked_for(source: Path, tmp_path: Path) -> None:
    reader, taken = _Piped(), []

    class Engine(InMemoryAnswerEngine):
        def generate(self, *arguments: Any) -> Any:
            taken.append(reader.taken)
            return super().generate(*arguments)

    answering = AnswerPrompts(small_route(), Engine(DEFAULT_LABELS.names))
    log = JsonlAnswerLog(tmp_path / "answers.jsonl")
    run = AnswerFile(reader, log, lambda: answering, RecordingProgressReporter())
    assert run(AnswerFileRequest(source, group=2)).total == 5
    assert taken == [2, 4, 5]
    again = AnswerFile(_Piped(), log, lambda: answering, RecordingProgressReporter())(AnswerFileRequest(source))
    assert (again.skipped, again.by_adapter) == (5, {})


def test_a_log_that_keeps_nothing_gets_answers_in_order_and_minds_no_id_that_comes_twice(source: Path) -> None:
    source.write_text('{"id": 1, "prompt": "a"}\n{"id": 1}\n{"id": 1, "prompt": "b"}\n')
    came: list[str] = []

    class Log(InMemoryAnswerLog):
        def append(self, row_id: str, text: str, answer: Any) -> None:
            came.append(text)

        def append_error(self, row_id: str, line: int, error: Any) -> None:
            came.append(f"error in line {line}")

    answering = AnswerPrompts(small_route(), InMemoryAnswerEngine(DEFAULT_LABELS.names))
    log = Log(resumable=False)
    report = AnswerFile(PromptFileReader(), log, lambda: answering, RecordingProgressReporter())(
        AnswerFileRequest(source)
    )
    assert came == ["a", "error in line 2", "b"]
    assert (report.total, report.n_failed) == (3, 1)


def test_a_report_names_so_many_rows_without_an_answer_and_counts_all(tmp_path: Path) -> None:
    (tmp_path / "prompts.jsonl").write_text('"book a table"\n' + "{\n" * (FAILURES + 5))
    report, _ = answer(tmp_path / "prompts.jsonl", tmp_path / "answers.jsonl")
    assert (report.n_failed, len(report.failed)) == (FAILURES + 5, FAILURES)
    lines = failure_lines(report, tmp_path / "prompts.jsonl")
    assert lines[-1].endswith("prompts.jsonl: 5 more rows have no answer; they are among the answers")


@pytest.mark.parametrize("torn", [b"{", b'{"i', b'{"id":', b'{"id":"x","prompt":"a'])
def test_a_line_cut_off_anywhere_is_taken_away(source: Path, tmp_path: Path, torn: bytes) -> None:
    output = tmp_path / "answers.jsonl"
    answer(source, output)
    whole = output.read_bytes()
    output.write_bytes(whole + torn)
    answer(source, output)
    assert output.read_bytes() == whole
