"""Prompts in JSON Lines or plain text files, or from standard input: one reader for `route`, `infer` and training."""

from __future__ import annotations

import select
import sys
from collections.abc import Iterator
from contextlib import nullcontext
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

import orjson

from adapters.datasets.as_they_come import as_they_come, in_chunks
from application.ports.answer_files import PromptRow
from domain.answers import Prompt
from domain.chats import Chat, as_chat, first_present, parse_turns, routing_text
from domain.errors import DataRejectedError, MissingFileError, MoeRouterError, StorageError
from domain.turns import TurnChoice

LINE_LIMIT = 16 * 1024 * 1024
"""Bytes of a line at most: a file without line ends must not fill the memory."""

_KEYS = ("prompt", "text", "messages", "conversations")


class PromptFileReader:
    """A :class:`application.ports.PromptReader` and ``PromptRowReader`` on the local file system.

    A line is a JSON string, or an object with one of ``prompt``, ``text``, ``messages`` and ``conversations`` (the
    first of these that is not null: a text, or a list of turns); it may have an ``id`` (string or number) and
    ``images`` (paths, relative to the file). Except in ``.jsonl`` and ``.json`` files it may also be plain text.
    """

    def read_prompts(self, path: Path, turn: TurnChoice = TurnChoice.LAST) -> list[str]:
        """Read one file, or standard input for ``-``; see the port for the contract."""
        prompts = []
        for row in _rows(path):
            if row.problem is not None:
                raise _at(row, path)
            prompts.append(routing_text(row.prompt.chat, turn))
        return prompts

    def can_be_read_again(self, path: Path) -> bool:
        """Tell a file from a pipe; see the port for the contract."""
        if str(path) == "-":
            if stdin_has_ended():
                raise _empty(path)
            return False
        if path.is_dir() or not path.exists():
            raise _missing(path)
        return path.is_file()

    def require_a_prompt(self, path: Path) -> None:
        """Raise what is wrong with the first row unless a row of the file is a prompt."""
        first = None
        for row in _rows(path):
            if row.problem is None:
                return
            first = first or _at(row, path)
        if first is not None:
            raise first

    def stream_prompt_rows(self, path: Path) -> Iterator[PromptRow]:
        """Read one file, or standard input for ``-``; see the port for the contract."""
        return _rows(path)

    def group_prompt_rows(self, path: Path, size: int) -> Iterator[list[PromptRow]]:
        """Read one file, or standard input for ``-``, in groups; see the port for the contract."""
        return (in_chunks if path.is_file() else as_they_come)(_rows(path), size)


def stdin_has_ended() -> bool:
    """Tell whether standard input is closed or at its end, without waiting for what may still come."""
    if sys.stdin is None:  # closed before this process began
        return True
    buffer: Any = sys.stdin.buffer
    try:
        ready, _, _ = select.select([buffer], [], [], 0)
        return bool(ready) and not buffer.peek(1)
    except (OSError, ValueError):  # not a file of the operating system
        return False


def _rows(path: Path) -> Iterator[PromptRow]:
    strict, found = path.suffix in (".jsonl", ".json"), False
    for number, raw in enumerate(_lines(path), start=1):
        if not raw.strip():
            continue
        if len(raw.rstrip(b"\n")) > LINE_LIMIT:  # its rest is not worth reading
            raise DataRejectedError(
                f"is longer than {LINE_LIMIT >> 20} MiB",
                where=f"{path}:{number}",
                hint="one prompt a line is expected",
            )
        found = True
        yield _row(raw, number, path, strict)
    if not found:
        raise _empty(path)


def _row(raw: bytes, number: int, path: Path, strict: bool) -> PromptRow:
    """Return the prompt of one line, or what is wrong with it, under its id as far as one can tell."""
    row_id = str(number)
    try:
        row = _parsed(raw, strict)
        row_id = _id(row, number)
        prompt = _prompt(row, path.parent)
        routing_text(prompt.chat)
    except DataRejectedError as error:
        return PromptRow(row_id, Prompt(()), number, error)
    return PromptRow(row_id, prompt, number)


def _lines(path: Path) -> Iterator[bytes]:
    """Yield each line as soon as it is there. Lines end at ``\\n`` only: U+2028 and its like are not line ends."""
    try:
        with nullcontext(sys.stdin.buffer) if str(path) == "-" else path.open("rb") as file:
            first = file.readline(LINE_LIMIT + 2).removeprefix(b"\xef\xbb\xbf")
            yield from chain([first], iter(partial(file.readline, LINE_LIMIT + 2), b""))
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
        raise _missing(path) from None
    except OSError as error:
        if isinstance(error, MoeRouterError):  # of whoever used the line
            raise
        raise StorageError(f"cannot read: {error.strerror or error}", where=path) from error


def _at(row: PromptRow, path: Path) -> DataRejectedError:
    assert row.problem is not None
    return DataRejectedError(row.problem.what, where=f"{path}:{row.line}", hint=row.problem.hint)


def _empty(path: Path) -> DataRejectedError:
    if str(path) == "-":
        return DataRejectedError("standard input holds no prompts", hint="pipe some in, or name a file")
    return DataRejectedError("holds no prompts", where=path)


def _missing(path: Path) -> MissingFileError:
    return MissingFileError("is a folder, not a file" if path.is_dir() else "no such file", where=path)


def _parsed(raw: bytes, strict: bool) -> Any:
    """Return the JSON value of one line, or its text where plain text is allowed."""
    try:
        text = raw.decode().strip()
    except UnicodeDecodeError:
        raise DataRejectedError(
            "is not UTF-8 text", hint="compressed files and other encodings are not read"
        ) from None
    if text[0] not in '{"' and not strict:
        return text
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError as error:
        if not strict:
            return text  # plain text that happens to begin with a quotation mark or a brace
        raise DataRejectedError(
            f"is not a JSON value ({error.msg})", hint='one per line is expected: {"prompt": "…"}, or a string'
        ) from None


def _id(row: Any, number: int) -> str:
    row_id = row.get("id") if isinstance(row, dict) else None
    if row_id is None:
        return str(number)
    if isinstance(row_id, bool) or not isinstance(row_id, str | int):
        raise DataRejectedError("the id is neither a string nor a whole number")
    return str(row_id)


def _prompt(row: Any, folder: Path) -> Prompt:
    if isinstance(row, str):
        return Prompt(as_chat(row))
    if not isinstance(row, dict):
        raise DataRejectedError(f"the row is a {type(row).__name__}, not an object or a string")
    images = row.get("images") or []
    if not isinstance(images, list) or not all(isinstance(image, str) for image in images):
        raise DataRejectedError("'images' is not a list of paths")
    return Prompt(_chat(row), tuple(folder / image for image in images))


def _chat(row: dict[str, Any]) -> Chat:
    said = first_present(row, _KEYS)
    if said is None:
        raise DataRejectedError("the row has no 'prompt', 'text', 'messages' or 'conversations'")
    return as_chat(said) if isinstance(said, str) else parse_turns(said)
