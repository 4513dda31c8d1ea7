"""Answers and decisions to a stream of prompts, printed as they come."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext

import click
from attrs import frozen

from application.ports.answering import AnswerRequest
from domain.answers import Answer, Finish, Prompt
from domain.errors import MoeRouterError
from domain.routing import RoutingDecision
from entrypoints.reports.answers import (
    answer_line,
    answer_text,
    decision_line,
    decision_text,
    error_line,
    error_text,
)


@frozen
class DecisionStream:
    """An :class:`application.ports.answering.AnswerStream` of decisions that nobody answers.

    What such an answer says is the text that was routed.

    Attributes:
        decide: routes prompts.
    """

    decide: Callable[[Sequence[Prompt]], Sequence[tuple[str, RoutingDecision]]]

    def stream(self, request: AnswerRequest) -> Iterator[tuple[int, Answer | MoeRouterError]]:
        """Yield the decisions in the order of the prompts."""
        for index, (text, decision) in enumerate(self.decide(request.prompts)):
            yield index, Answer(decision, decision.adapter, None, text, 0, Finish.STOP)


@frozen
class PrintedAnswers:
    """An :class:`application.ports.answer_files.AnswerLog` on standard output, which keeps nothing.

    Attributes:
        as_json: whether each is one JSON object on a line.
        decisions: whether the answers are those of a :class:`DecisionStream`.
        resumable: False; see the port.
    """

    as_json: bool
    decisions: bool = False
    resumable: bool = False

    def check(self) -> None:
        """Be ready for every answer."""

    def held(self) -> AbstractContextManager[None]:
        """Let everybody print."""
        return nullcontext()

    def finished(self) -> Mapping[bytes, bytes]:
        """Know of no earlier answer."""
        return {}

    def append(self, row_id: str, text: str, answer: Answer) -> None:
        """Print one answer, or one decision."""
        if self.decisions and answer.decision is not None:
            shown = decision_line(answer.text, answer.decision, id=row_id)
            click.echo(shown if self.as_json else decision_text(answer.text, answer.decision))
        else:
            click.echo(answer_line(text, answer, id=row_id) if self.as_json else answer_text(text, answer))

    def append_error(self, row_id: str, line: int, error: MoeRouterError) -> None:
        """Print why a row has no answer."""
        click.echo((error_line if self.as_json else error_text)(row_id, line, error))
