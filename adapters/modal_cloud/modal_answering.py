"""Answering many prompts on a Modal GPU, as a stream."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from typing import Any

from attrs import evolve, frozen

from adapters.modal_cloud.modal_gpu_trainer import Relay
from adapters.modal_cloud.modal_jobs import RESULT, ModalJobs
from adapters.modal_cloud.modal_requests import RemoteAnswers, RemoteQuestions
from adapters.modal_cloud.modal_wire import from_wire, to_wire
from application.answering.answer_prompts import AnswerRequest
from application.answering.answers import Answer
from application.ports import ProgressReporter


@frozen
class ModalAnswering:
    """An :class:`application.answering.answer_file.AnswerStream` whose work the app's function ``infer`` does.

    Attributes:
        jobs: calls the app.
        progress: shows here how far the container is.
        questions: all but the prompts and how to generate, which a request brings.
    """

    jobs: ModalJobs
    progress: ProgressReporter
    questions: RemoteQuestions

    def stream(self, request: AnswerRequest) -> Iterator[tuple[int, Answer]]:
        """Yield ``(index, answer)`` as batches finish there; what a message lost comes with the result at the end.

        A container that is replaced starts over; an answer that is here already is not given again. Raises what the
        local use case raises, and RemoteError.
        """
        questions = evolve(self.questions, prompts=request.prompts, options=request.options)
        given: set[int] = set()
        with Relay(self.progress) as relay, closing(self.jobs.follow("infer", to_wire(questions))) as messages:
            for message in messages:
                relay(message)
                for index, answer in _answers(message):
                    if index not in given:
                        given.add(index)
                        yield index, answer


def _answers(message: dict[str, Any]) -> Iterator[tuple[int, Answer]]:
    kind = message.get("kind")
    if kind == "answer":
        yield message["index"], from_wire(Answer, message)
    elif kind == RESULT:
        yield from enumerate(from_wire(RemoteAnswers, message["result"]).answers)
