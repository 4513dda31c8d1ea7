"""Ports around files of prompts and of their answers."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Protocol

from attrs import frozen

from application.answering.answers import Answer, Prompt


@frozen
class PromptRow:
    """One row of a file of prompts.

    Attributes:
        id: what the answer is found by: the row's own ``id``, else its line number.
        prompt: what to answer.
    """

    id: str
    prompt: Prompt


class PromptRowReader(Protocol):
    """Reads a file of prompts to answer."""

    def read_prompt_rows(self, path: Path) -> list[PromptRow]:
        """Return the rows in file order, at least one, their ids unique.

        Raises:
            MissingFileError: no such file.
            DataRejectedError: a row is no prompt, or an id comes twice; the message names file and line.
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
            DataRejectedError: what is there are no answers, or answers by something else; nothing was changed.
            StorageError: the file system refused.
        """
        ...

    def append(self, row_id: str, text: str, answer: Answer) -> None:
        """Keep one answer to the prompt whose routing text is `text`; raises StorageError."""
        ...
