"""Use case: answer a file of prompts, as a stream that can be interrupted and resumed."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Protocol

from attrs import evolve, frozen

from application.answering.answer_prompts import AnswerRequest
from application.answering.answers import Answer
from application.ports import ProgressReporter
from application.ports.answer_files import AnswerLog, PromptRow, PromptRowReader
from domain.answers import CHOSEN_ONLY, GREEDY, AnswerPolicy, GenerationOptions
from domain.chats import routing_text
from domain.errors import DataRejectedError, MoeRouterError


class AnswerStream(Protocol):
    """Answers prompts, here (:class:`application.answering.answer_prompts.AnswerPrompts`) or elsewhere."""

    def stream(self, request: AnswerRequest) -> Iterator[tuple[int, Answer | MoeRouterError]]:
        """Yield ``(index, answer)``, or an error in place of one, for every prompt, each as soon as it is known."""
        ...


@frozen
class AnswerFileRequest:
    """Which prompts to answer and how.

    Attributes:
        source: file of prompts.
        options: how answers are generated.
        policy: who may answer.
    """

    source: Path
    options: GenerationOptions = GREEDY
    policy: AnswerPolicy = CHOSEN_ONLY


@frozen
class FailedRow:
    """A row without an answer.

    Attributes:
        id: its id.
        line: its line in the file, from 1.
        error: why.
    """

    id: str
    line: int
    error: MoeRouterError


@frozen
class AnswerFileReport:
    """What a run over a file of prompts did.

    Attributes:
        total: prompts in the file.
        skipped: those that an earlier run had answered.
        by_adapter: answers of this run by who gave them; the bare base model is "base".
        fallbacks: answers of this run that are not the router's confident choice.
        tokens: tokens that this run generated.
        failed: rows that no answer could be given to, in file order.
    """

    total: int
    skipped: int
    by_adapter: dict[str, int]
    fallbacks: int
    tokens: int
    failed: tuple[FailedRow, ...] = ()


@frozen(eq=False)
class AnswerFile:
    """Answers what no earlier run has answered; each answer is kept as soon as its batch is done.

    Attributes:
        rows: reads the prompts.
        log: keeps the answers.
        answering: loads what answers them; called once, when everything else is known to be in order, and not at
            all when nothing waits for an answer.
        progress: shows how many are done.
    """

    rows: PromptRowReader
    log: AnswerLog
    answering: Callable[[], AnswerStream]
    progress: ProgressReporter

    def __call__(self, request: AnswerFileRequest) -> AnswerFileReport:
        """Answer the file; a row that cannot be answered is kept as an error and touches no other.

        Raises:
            DataRejectedError: no row is a prompt, a row was answered before with another text, or an id comes twice.
            UsageError: no answer can be kept.
            TargetExistsError: another run is answering into the same place.
            MissingFileError, StorageError: as the ports say.
        """
        every = self.rows.read_prompt_rows(request.source)
        rows = [row for row in every if row.problem is None]
        if not rows and (problem := every[0].problem) is not None:
            raise DataRejectedError(problem.what, where=f"{request.source}:{every[0].line}", hint=problem.hint)
        self.log.check()
        with self.log.held():
            report = self._answer(rows, self._answered(rows, request.source), request)
            unread = [FailedRow(row.id, row.line, row.problem) for row in every if row.problem is not None]
            for row in unread:
                self.log.append_error(row.id, row.line, row.error)
        failed = sorted((*report.failed, *unread), key=lambda row: row.line)
        return evolve(report, total=len(every), failed=tuple(failed))

    def _answer(
        self, rows: Sequence[PromptRow], done: frozenset[int], request: AnswerFileRequest
    ) -> AnswerFileReport:
        by_adapter: dict[str, int] = {}
        failed = []
        fallbacks = tokens = 0
        if len(done) < len(rows):
            answer_prompts = self.answering()
            asked = AnswerRequest(tuple(row.prompt for row in rows), request.options, request.policy, done)
            with self.progress.track("Answering prompts", len(rows) - len(done)) as task:
                for index, answer in answer_prompts.stream(asked):
                    row = rows[index]
                    if isinstance(answer, MoeRouterError):
                        self.log.append_error(row.id, row.line, answer)
                        failed.append(FailedRow(row.id, row.line, answer))
                    else:
                        self.log.append(row.id, routing_text(row.prompt.chat), answer)
                        name = answer.adapter or "base"
                        by_adapter[name] = by_adapter.get(name, 0) + 1
                        fallbacks += answer.fallback is not None
                        tokens += answer.tokens
                    task.advance()
        return AnswerFileReport(len(rows), len(done), by_adapter, fallbacks, tokens, tuple(failed))

    def _answered(self, rows: Sequence[PromptRow], source: Path) -> frozenset[int]:
        """Return the positions of the rows that an earlier run has answered."""
        finished = self.log.finished()
        for row in rows:
            if row.id in finished and finished[row.id] != routing_text(row.prompt.chat):
                raise DataRejectedError(
                    f"id {row.id!r} was answered before, with another prompt",
                    where=source,
                    hint="write to another file, or give the prompts other ids",
                )
        return frozenset(index for index, row in enumerate(rows) if row.id in finished)
