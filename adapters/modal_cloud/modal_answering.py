"""Answering many prompts on a Modal GPU, as a stream."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any

from attrs import evolve, frozen

from adapters.modal_cloud.modal_jobs import RESULT, Jobs
from adapters.modal_cloud.modal_messages import Relay
from adapters.modal_cloud.modal_wire import from_wire
from application.answering.answer_prompts import AnswerRequest
from application.answering.answers import Answer
from application.ports import ProgressReporter
from domain.routing import RoutingDecision


@frozen
class RemoteAnswers:
    """Routed texts with decisions in the order of the prompts when only routing was asked for, else answers."""

    decisions: tuple[tuple[str, RoutingDecision], ...] = ()
    answers: tuple[Answer, ...] = ()


@frozen
class ModalAnswering:
    """An :class:`application.answering.answer_file.AnswerStream` whose work the app's function ``infer`` does.

    Attributes:
        jobs: calls the app.
        progress: shows here how far the container is.
        ask: makes what the function takes.
    """

    jobs: Jobs
    progress: ProgressReporter
    ask: Callable[[AnswerRequest], dict[str, Any]]

    def __call__(self, request: AnswerRequest) -> list[Answer]:
        """Return one answer per prompt, in order; for errors see `stream`."""
        found = dict(self.stream(request))
        return [found[index] for index in range(len(request.prompts))]

    def stream(self, request: AnswerRequest) -> Iterator[tuple[int, Answer]]:
        """Yield ``(index, answer)`` as batches finish there; what a message lost comes with the result at the end.

        What is done already is not sent, so that a decision of a run that goes on may differ in its last digit.
        A container that is replaced starts over; an answer that is here already is not given again. Raises what the
        local use case raises, and RemoteError.
        """
        sent = [index for index in range(len(request.prompts)) if index not in request.done]
        asked = evolve(request, prompts=tuple(request.prompts[index] for index in sent), done=frozenset())
        given: set[int] = set()
        with Relay(self.progress) as relay, closing(self.jobs.follow("infer", self.ask(asked))) as messages:
            for message in messages:
                relay(message)
                for index, answer in _answers(message):
                    if index not in given:
                        given.add(index)
                        yield sent[index], answer


def _answers(message: dict[str, Any]) -> Iterator[tuple[int, Answer]]:
    kind = message.get("kind")
    if kind == "answer":
        yield message["index"], from_wire(Answer, message)
    elif kind == RESULT:
        yield from enumerate(from_wire(RemoteAnswers, message["result"]).answers)
