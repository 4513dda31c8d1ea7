"""Answering many prompts on Modal GPUs, as a stream."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any

from attrs import evolve, frozen

from adapters.modal_cloud.modal_jobs import RESULT, Jobs
from adapters.modal_cloud.modal_messages import Relay
from adapters.modal_cloud.modal_wire import outcome_from_wire
from adapters.modal_cloud.remote_functions import SHARES
from application.answering.answer_prompts import all_answered
from application.ports import ProgressReporter
from application.ports.answering import AnswerRequest
from domain.answers import Answer
from domain.errors import MoeRouterError
from domain.routing import RoutingDecision


@frozen
class RemoteDecisions:
    """Routed texts with decisions, in the order of the prompts."""

    decisions: tuple[tuple[str, RoutingDecision], ...]


@frozen
class ModalAnswering:
    """An :class:`application.ports.answering.AnswerStream` whose work containers do.

    Attributes:
        jobs: calls the app.
        progress: shows here how far the container is.
        ask: makes what the app's function takes.
        shares: containers that answer at the same time, each its share of the prompts.
    """

    jobs: Jobs
    progress: ProgressReporter
    ask: Callable[[AnswerRequest], dict[str, Any]]
    shares: int = 1

    def __call__(self, request: AnswerRequest) -> list[Answer]:
        """Return one answer per prompt, in order; raises the first error that stands in place of one."""
        return all_answered(self.stream(request))

    def stream(self, request: AnswerRequest) -> Iterator[tuple[int, Answer | MoeRouterError]]:
        """Yield ``(index, answer)``, or an error in place of one, as batches finish there.

        What a message lost comes with the result at the end. What is done already is not sent, so that a decision of
        a run that goes on may differ in its last digit. A container that is replaced answers what is missing; an
        answer that is here already is not given again. Raises what the local use case raises, and RemoteError.
        """
        sent = [index for index in range(len(request.prompts)) if index not in request.done]
        asked = self.ask(evolve(request, prompts=tuple(request.prompts[index] for index in sent), done=frozenset()))
        name = "infer" if self.shares == 1 else SHARES
        given: set[int] = set()
        with Relay(self.progress) as relay, closing(self.jobs.follow(name, asked)) as messages:
            for message in messages:
                relay(message)
                for index, outcome in _outcomes(message):
                    if index not in given:
                        given.add(index)
                        yield sent[index], outcome


def _outcomes(message: dict[str, Any]) -> Iterator[tuple[int, Answer | MoeRouterError]]:
    kind = message.get("kind")
    if kind == "answer":
        yield message["index"], outcome_from_wire(message["outcome"])
    elif kind == RESULT:
        yield from enumerate(map(outcome_from_wire, message["result"]["outcomes"]))
