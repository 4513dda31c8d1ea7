"""Answers from Modal come as they are known, each once, and none is lost with a message."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from adapters.in_memory.answers import InMemoryAnswerLog, InMemoryPromptRowReader
from adapters.in_memory.runtime import RecordingProgressReporter
from adapters.modal_cloud.modal_answering import ModalAnswering, question_keys, require_about
from adapters.modal_cloud.modal_jobs import RESULT
from adapters.modal_cloud.modal_wire import from_wire, outcome_to_wire, to_wire
from adapters.modal_cloud.remote_functions import SHARES
from application.answering.answer_file import AnswerFile, AnswerFileRequest
from application.ports.answer_files import PromptRow
from application.ports.answering import AnswerRequest
from domain.answers import Answer, GenerationOptions, Prompt
from domain.chats import as_chat
from domain.errors import MoeRouterError, RemoteError, TooLongError, UsageError

SOURCE = Path("prompts")
ANSWERS = tuple(Answer(None, None, "why", f"answer {i}", 1, "stop") for i in range(3))
STARTED = {"kind": "started", "container": "ta-1"}


def arrived(index: int) -> dict[str, Any]:
    return {"kind": "answer", "index": index, "outcome": to_wire(ANSWERS[index])}


def result(*outcomes: Answer | MoeRouterError) -> dict[str, Any]:
    return {"kind": RESULT, "result": {"outcomes": [outcome_to_wire(each) for each in outcomes]}}


class Jobs:
    """Gives these messages, and raises an error among them."""

    name = "infer"

    def __init__(self, *messages: dict[str, Any] | Exception, attached: dict[str, Any] | None = None) -> None:
        self.messages, self.asked, self.attached = messages, list[AnswerRequest](), attached
        self.waited_for = list[str]()

    def attach(self, name: str, call_id: str) -> dict[str, Any]:
        assert name == "infer"
        assert self.attached is not None
        self.waited_for.append(call_id)
        return self.attached

    def follow(self, name: str, request: dict[str, Any]) -> Iterator[dict[str, Any]]:
        assert name == self.name
        self.asked.append(from_wire(AnswerRequest, request))
        for message in self.messages:
            if isinstance(message, Exception):
                raise message
            yield message


def answer_file(log: InMemoryAnswerLog, jobs: Any) -> None:
    rows = InMemoryPromptRowReader({SOURCE: [PromptRow(str(i), Prompt(as_chat(f"prompt {i}"))) for i in range(3)]})
    progress = RecordingProgressReporter()
    AnswerFile(rows, log, lambda: ModalAnswering(jobs, progress, to_wire), progress)(AnswerFileRequest(SOURCE))


@pytest.mark.parametrize(
    "messages",
    [
        [STARTED, arrived(2), arrived(0), arrived(1), result(*ANSWERS)],
        [STARTED, arrived(2), result(*ANSWERS)],  # two messages were lost
        [STARTED, arrived(1), STARTED, arrived(1), arrived(0), result(*ANSWERS)],  # a container was replaced
    ],
)
def test_every_answer_is_given_once(messages: list[dict[str, Any]]) -> None:
    jobs: Any = Jobs(*messages)
    answering = ModalAnswering(jobs, RecordingProgressReporter(), to_wire)
    request = AnswerRequest((Prompt(as_chat("prompt")),) * 3, GenerationOptions(max_new_tokens=7))
    assert sorted(answering.stream(request)) == list(enumerate(ANSWERS))
    assert jobs.asked == [request]


def test_what_came_before_the_connection_was_lost_is_kept_and_the_rest_is_asked_for_again() -> None:
    log = InMemoryAnswerLog()
    with pytest.raises(RemoteError):
        answer_file(log, Jobs(STARTED, arrived(1), RemoteError("lost")))
    assert list(log.answers) == ["1"]
    again = Jobs(STARTED, result(ANSWERS[0], ANSWERS[2]))
    answer_file(log, again)
    assert len(again.asked[0].prompts) == 2
    assert sorted(log.answers) == ["0", "1", "2"]


def test_a_prompt_without_an_answer_is_an_error_in_its_place_and_touches_no_other() -> None:
    error = TooLongError("a prompt of 9 tokens is too long", where="prompt 'x'", hint="shorten it")
    log, too_long = InMemoryAnswerLog(), {"kind": "answer", "index": 1, "outcome": outcome_to_wire(error)}
    answer_file(log, Jobs(STARTED, arrived(0), too_long, result(ANSWERS[0], error, ANSWERS[2])))
    assert sorted(log.answers) == ["0", "2"]
    assert {name: str(each) for name, each in log.errors.items()} == {"1": str(error)}
    jobs: Any = Jobs(STARTED, result(ANSWERS[0], error, ANSWERS[2]))
    answering = ModalAnswering(jobs, RecordingProgressReporter(), to_wire)
    with pytest.raises(TooLongError, match="a prompt of 9 tokens is too long"):
        answering(AnswerRequest((Prompt(as_chat("prompt")),) * 3))


def test_shares_are_another_function_of_the_app() -> None:
    jobs: Any = Jobs({"kind": "share", "share": 1}, arrived(1), arrived(0), arrived(2), result(*ANSWERS))
    jobs.name = SHARES
    answering = ModalAnswering(jobs, RecordingProgressReporter(), to_wire, shares=2)
    assert sorted(answering.stream(AnswerRequest((Prompt(as_chat("prompt")),) * 3))) == list(enumerate(ANSWERS))


PROMPTS = tuple(Prompt(as_chat(f"prompt {i}")) for i in range(3))


def attached(prompts: tuple[Prompt, ...], outcomes: tuple[Answer | MoeRouterError, ...]) -> dict[str, Any]:
    """Return the result of a call about these prompts."""
    asked = to_wire(AnswerRequest(prompts))
    return {"keys": question_keys(asked), **result(*outcomes)["result"]}


def test_a_call_that_was_started_before_gives_its_answers_and_the_rest_is_asked_for() -> None:
    error = TooLongError("too long", where="prompt 'x'")
    jobs: Any = Jobs(STARTED, result(ANSWERS[1]), attached=attached(PROMPTS[::2], (ANSWERS[0], error)))
    answering = ModalAnswering(jobs, RecordingProgressReporter(), to_wire, attach="fc-1")
    given = dict(answering.stream(AnswerRequest(PROMPTS)))
    assert (given[0], given[1], str(given[2])) == (ANSWERS[0], ANSWERS[1], str(error))
    assert jobs.asked == [AnswerRequest(PROMPTS[1:2])]
    (again,) = answering.stream(AnswerRequest(PROMPTS[1:2]))  # the next rows of a file
    assert (again, jobs.waited_for) == ((0, ANSWERS[1]), ["fc-1"])


def test_nothing_is_asked_when_the_call_answers_everything() -> None:
    jobs: Any = Jobs(AssertionError("asked"), attached=attached(PROMPTS, ANSWERS))
    answering = ModalAnswering(jobs, RecordingProgressReporter(), to_wire, attach="fc-1")
    assert sorted(answering.stream(AnswerRequest(PROMPTS, done=frozenset({1})))) == [(0, ANSWERS[0]), (2, ANSWERS[2])]


def test_a_call_about_other_prompts_or_with_other_options_is_refused() -> None:
    jobs: Any = Jobs(AssertionError("asked"), attached=attached(PROMPTS[:2], ANSWERS[:2]))
    answering = ModalAnswering(jobs, RecordingProgressReporter(), to_wire, attach="fc-1")
    for other in (AnswerRequest(PROMPTS[2:]), AnswerRequest(PROMPTS, GenerationOptions(max_new_tokens=9))):
        with pytest.raises(UsageError, match="call fc-1 is about other prompts, or answers with other options"):
            list(answering.stream(other))
        answering = ModalAnswering(jobs, RecordingProgressReporter(), to_wire, attach="fc-1")
    asked = to_wire(AnswerRequest(PROMPTS))
    require_about(asked, {"value": "a report"}, "fc-1")
    require_about(asked, {"keys": question_keys(asked)}, "fc-1")
    with pytest.raises(UsageError, match="other prompts"):
        require_about({**asked, "route_only": True}, {"keys": question_keys(asked)}, "fc-1")
