"""Ports around files of prompts and of their answers."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Protocol

from attrs import field, frozen

from application.answering.answers import Answer, Prompt
from domain.errors import MoeRouterError


@frozen
class PromptRow:
    """One row of a file of prompts.

    Attributes:
        id: what the answer is found by: the row's own ``id``, else its line number.
        prompt: what to answer.
        line: number of its line in the file, from 1.
        problem: why the row is not a prompt; None for all others. The prompt is then an empty conversation.
    """

    id: str
    prompt: Prompt
    line: int = field(default=0, eq=False)
    problem: MoeRouterError | None = field(default=None, eq=False)


class PromptRowReader(Protocol):
    """Reads a file of prompts to answer."""

    def read_prompt_rows(self, path: Path) -> list[PromptRow]:
        """Return the rows in file order, at least one, their ids unique; those that are not prompts say why.

        Raises:
            MissingFileError: no such file.
            DataRejectedError: an id comes twice; the message names file and line.
        """
        ...


class AnswerLog(Protocol):
    """Keeps answers as they come, so that an interrupted run goes on where it stopped.

    The contract: an answer that `append` returned from is in `finished` of every later log on the same place,
    whatever happens to the process; half an answer never is.
    """

    def check(self) -> None:
        """Raise UsageError when no answer can be kept here; changes nothing. For asking before long work."""
        ...

    def held(self) -> AbstractContextManager[None]:
        """Keep every other run from answering into the same place until the context ends.

        Raises:
            TargetExistsError: another run is answering there.
            StorageError: the file system refused.
        """
        ...

    def finished(self) -> Mapping[str, str]:
        """Return the prompt's routing text of every answer that is kept, by its id.

        Raises:
            DataRejectedError: it is not a file of answers, or something else answered; nothing was changed.
            StorageError: the file system refused.
        """
        ...

    def append(self, row_id: str, text: str, answer: Answer) -> None:
        """Keep one answer to the prompt whose routing text is `text`; raises StorageError."""
        ...

    def append_error(self, row_id: str, line: int, error: MoeRouterError) -> None:
        """Keep why a row has no answer; it is not finished by that, so the next run tries again."""
        ...
