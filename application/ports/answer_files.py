"""Ports around files of prompts and of their answers."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Protocol

from attrs import field, frozen

from domain.answers import Answer, Prompt
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
    """Reads prompts to answer, without holding more of them than it is asked for."""

    def can_be_read_again(self, path: Path) -> bool:
        """Tell a file from a pipe, whose rows come once; raises MissingFileError when there is neither.

        Raises DataRejectedError for a pipe that is known to have ended without a row.
        """
        ...

    def stream_prompt_rows(self, path: Path) -> Iterator[PromptRow]:
        """Yield the rows in order, at least one, each as soon as it is there; those that are not prompts say why.

        Raises:
            MissingFileError: no such file.
            DataRejectedError: there is no row, or one of them is too long to be read over.
            StorageError: the file system refused.
        """
        ...

    def group_prompt_rows(self, path: Path, size: int) -> Iterator[list[PromptRow]]:
        """Yield the same rows `size` at a time; those of a pipe as many as have come, at most `size`."""
        ...


def fingerprint(text: str) -> bytes:
    """Return 16 bytes that stand for a text: what is kept of a row that was seen, however long it is."""
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).digest()


class AnswerLog(Protocol):
    """Takes answers as they come.

    The contract where it is `resumable`: an answer that `append` returned from is in `finished` of every later log on
    the same place, whatever happens to the process; half an answer never is.
    """

    @property
    def resumable(self) -> bool:
        """Whether answers are found again by their ids. Else they are to come in the order of their prompts."""
        ...

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

    def finished(self) -> Mapping[bytes, bytes]:
        """Return the `fingerprint` of every kept answer's routing text, by that of its id.

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
