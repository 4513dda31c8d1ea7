"""Answering many prompts on Modal GPUs, as a stream."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from typing import Any

from attrs import define, evolve, field, frozen

from adapters.modal_cloud.modal_jobs import RESULT, Jobs
from adapters.modal_cloud.modal_messages import Relay
from adapters.modal_cloud.modal_wire import outcome_from_wire
from adapters.modal_cloud.remote_functions import SHARES
from application.answering.answer_prompts import all_answered
from application.ports import ProgressReporter
from application.ports.answering import AnswerRequest
from domain.answers import Answer
from domain.errors import MoeRouterError, UsageError
from domain.routing import RoutingDecision


@frozen
class RemoteDecisions:
    """Routed texts with decisions, in the order of the prompts."""

    decisions: tuple[tuple[str, RoutingDecision], ...]


@define
class ModalAnswering:
    """An :class:`application.ports.answering.AnswerStream` whose work containers do.

    Attributes:
        jobs: calls the app.
        progress: shows here how far the container is.
        ask: makes what the app's function takes.
        shares: containers that answer at the same time, each its share of the prompts.
        attach: id of a call that was started before: its answers are taken, and what it does not answer is asked for.
    """

    jobs: Jobs
    progress: ProgressReporter
    ask: Callable[[AnswerRequest], dict[str, Any]]
    shares: int = 1
    attach: str | None = None
    _attached: dict[str, list[Answer | MoeRouterError]] | None = field(default=None, init=False)

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
        if self.attach is not None:
            taken = dict(self._taken(self._asked(request, sent), sent))
            yield from taken.items()
            sent = [index for index in sent if index not in taken]
        if sent:
            yield from self._answered(self._asked(request, sent), sent)

    def _asked(self, request: AnswerRequest, sent: Sequence[int]) -> dict[str, Any]:
        return self.ask(evolve(request, prompts=tuple(request.prompts[index] for index in sent), done=frozenset()))

    def _taken(self, asked: Mapping[str, Any], sent: Sequence[int]) -> Iterator[tuple[int, Answer | MoeRouterError]]:
        """Yield what the call that was started before answers of these prompts."""
        keys, first = question_keys(asked), self._attached is None
        if self._attached is None:
            result = self.jobs.attach("infer", str(self.attach))
            self._attached = {}
            for key, outcome in zip(result.get("keys", ()), result.get("outcomes", ()), strict=False):
                self._attached.setdefault(key, []).append(outcome_from_wire(outcome))
        if first and not self._attached.keys() & set(keys):
            raise _about_others(str(self.attach))
        for index, key in zip(sent, keys, strict=True):
            if self._attached.get(key):
                yield index, self._attached[key].pop(0)

    def _answered(self, asked: dict[str, Any], sent: Sequence[int]) -> Iterator[tuple[int, Answer | MoeRouterError]]:
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


def question_keys(request: Mapping[str, Any]) -> list[str]:
    """Return a hash for each prompt of a request: of it, and of all that its answer depends on."""
    about = {name: value for name, value in request["value"].items() if name != "prompts"}
    about["route_only"] = bool(request.get("route_only"))
    before = hashlib.sha256(_bytes(about))
    keys = []
    for prompt in request["value"]["prompts"]:
        key = before.copy()
        key.update(_bytes(prompt))
        keys.append(key.hexdigest()[:16])
    return keys


def _bytes(value: Any) -> bytes:
    return json.dumps(value, sort_keys=True, default=sorted).encode()  # what travels may hold sets


def require_about(request: Mapping[str, Any], result: Mapping[str, Any], call_id: str) -> None:
    """Raise UsageError when a result is about other prompts, or other options, than a request; if it is about any."""
    if "keys" in result and result["keys"] != question_keys(request):
        raise _about_others(call_id)


def _about_others(call_id: str) -> UsageError:
    return UsageError(
        f"call {call_id} is about other prompts, or answers with other options",
        hint="give the command that started it again, with --attach added",
    )
