"""Use case: answer a file of prompts, as a stream that can be interrupted and resumed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Generator, Mapping, Sequence, Set
from contextlib import closing
from functools import cache
from operator import itemgetter
from pathlib import Path

from attrs import define, field, frozen

from application.answering.answer_prompts import GROUP
from application.ports import ProgressReporter
from application.ports.answer_files import AnswerLog, PromptRow, PromptRowReader, fingerprint
from application.ports.answering import AnswerRequest, AnswerStream
from domain.answer_policy import CHOSEN_ONLY, AnswerPolicy
from domain.answers import GREEDY, Answer, GenerationOptions
from domain.chats import routing_text
from domain.errors import DataRejectedError, MoeRouterError

FAILURES = 100
"""Rows without an answer that a report names; it counts all of them."""


@frozen
class AnswerFileRequest:
    """Which prompts to answer and how.

    Attributes:
        source: file of prompts, or a pipe.
        options: how answers are generated.
        policy: who may answer.
        group: rows that are read, and asked for, at a time: the memory that a run takes.
    """

    source: Path
    options: GenerationOptions = GREEDY
    policy: AnswerPolicy = CHOSEN_ONLY
    group: int = GROUP


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
        n_failed: rows that no answer could be given to.
        failed: the first of them, at most `FAILURES`, in the order in which they failed.
    """

    total: int
    skipped: int
    by_adapter: dict[str, int]
    fallbacks: int
    tokens: int
    n_failed: int = 0
    failed: tuple[FailedRow, ...] = ()


@define
class _Tally:
    """Counts what becomes of rows."""

    counts: Counter[str] = field(factory=Counter)
    by_adapter: Counter[str] = field(factory=Counter)
    failed: list[FailedRow] = field(factory=list)

    def add(self, row: PromptRow, outcome: Answer | MoeRouterError) -> None:
        if isinstance(outcome, MoeRouterError):
            self.counts["n_failed"] += 1
            if len(self.failed) < FAILURES:
                self.failed.append(FailedRow(row.id, row.line, outcome))
        else:
            self.by_adapter[outcome.adapter or "base"] += 1
            self.counts += Counter(fallbacks=int(outcome.fallback is not None), tokens=outcome.tokens)

    def report(self) -> AnswerFileReport:
        numbers = {name: self.counts[name] for name in ("total", "skipped", "fallbacks", "tokens", "n_failed")}
        return AnswerFileReport(by_adapter=dict(self.by_adapter), failed=tuple(self.failed), **numbers)


@frozen(eq=False)
class AnswerFile:
    """Answers what no earlier run has answered; each answer is kept as soon as its batch is done.

    No more prompts are held at a time than the request says. Of those that have gone by, a log that is resumable
    takes 32 bytes (and Python's bookkeeping) each, to tell ids that come twice.

    Attributes:
        rows: reads the prompts.
        log: takes the answers.
        answering: loads what answers them; called once, when everything else is known to be in order, and not at
            all when nothing waits for an answer. For a pipe it is called before the first row is there.
        progress: shows how many are done.
    """

    rows: PromptRowReader
    log: AnswerLog
    answering: Callable[[], AnswerStream]
    progress: ProgressReporter

    def __call__(self, request: AnswerFileRequest) -> AnswerFileReport:
        """Answer the file; a row that cannot be answered is kept as an error and touches no other.

        What is wrong with a file as a whole is raised before anything is answered, with a pipe where it is met.

        Raises:
            DataRejectedError: no row is a prompt, a row was answered before with another text, or an id comes twice.
            UsageError: no answer can be kept.
            TargetExistsError: another run is answering into the same place.
            MissingFileError, StorageError: as the ports say.
        """
        source = request.source
        waiting = self._waiting(source, {}) if self.rows.can_be_read_again(source) else None
        self.log.check()
        with self.log.held():
            finished = self.log.finished()
            if waiting is not None and finished:
                waiting = self._waiting(source, finished)
            return self._answer(request, finished, waiting)

    def _waiting(self, source: Path, finished: Mapping[bytes, bytes]) -> int:
        """Return how many rows wait for an answer; raises what is wrong with the file as a whole."""
        waiting, good, first = 0, 0, None
        is_done = self._by_id(source, finished)
        for row in self.rows.stream_prompt_rows(source):
            if row.problem is not None:
                first = first or DataRejectedError(
                    row.problem.what, where=f"{source}:{row.line}", hint=row.problem.hint
                )
            good += row.problem is None
            waiting += not is_done(row)
        if first is not None and not good:
            raise first
        return waiting

    def _by_id(self, source: Path, finished: Mapping[bytes, bytes]) -> Callable[[PromptRow], bool]:
        """Return what says whether an earlier run has answered a row; it raises for an id that is not unique."""
        seen: set[bytes] = set()

        def is_done(row: PromptRow) -> bool:
            if not self.log.resumable:
                return False
            key = fingerprint(row.id)
            if key in seen:
                raise DataRejectedError(f"id {row.id!r} comes twice", where=f"{source}:{row.line}")
            seen.add(key)
            if row.problem is not None or key not in finished:
                return False
            if finished[key] != fingerprint(routing_text(row.prompt.chat)):
                raise DataRejectedError(
                    f"id {row.id!r} was answered before, with another prompt",
                    where=source,
                    hint="write to another file, or give the prompts other ids",
                )
            return True

        return is_done

    def _answer(
        self, request: AnswerFileRequest, finished: Mapping[bytes, bytes], waiting: int | None
    ) -> AnswerFileReport:
        tally, loaded, is_done = _Tally(), cache(self.answering), self._by_id(request.source, finished)
        if waiting is None:
            loaded()
        with self.progress.track("Answering prompts", waiting) as task:
            for rows in self.rows.group_prompt_rows(request.source, request.group):
                done = {index for index, row in enumerate(rows) if is_done(row)}
                tally.counts += Counter(total=len(rows), skipped=len(done))
                # Closed when a signal comes between two answers: what answers elsewhere must hear of it at once.
                with closing(self._outcomes(rows, done, request, loaded)) as outcomes:
                    for index, outcome in outcomes if self.log.resumable else sorted(outcomes, key=itemgetter(0)):
                        self._keep(rows[index], outcome)
                        tally.add(rows[index], outcome)
                        task.advance()
        return tally.report()

    def _keep(self, row: PromptRow, outcome: Answer | MoeRouterError) -> None:
        if isinstance(outcome, MoeRouterError):
            self.log.append_error(row.id, row.line, outcome)
        else:
            self.log.append(row.id, routing_text(row.prompt.chat), outcome)

    @staticmethod
    def _outcomes(
        rows: Sequence[PromptRow], done: Set[int], request: AnswerFileRequest, loaded: Callable[[], AnswerStream]
    ) -> Generator[tuple[int, Answer | MoeRouterError]]:
        """Yield what becomes of each row that waits, by its position, in any order."""
        yield from ((index, row.problem) for index, row in enumerate(rows) if row.problem is not None)
        asked = [index for index, row in enumerate(rows) if row.problem is None]
        skipped = frozenset(place for place, index in enumerate(asked) if index in done)
        if len(skipped) < len(asked):
            prompts = tuple(rows[index].prompt for index in asked)
            answers = loaded().stream(AnswerRequest(prompts, request.options, request.policy, skipped))
            yield from ((asked[place], answer) for place, answer in answers)
