"""Whole conversations out of an adapter's own training data, for fine-tuning."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import orjson
from attrs import evolve

from domain.chats import Chat, first_present, parse_turns
from domain.errors import DataRejectedError, MissingFileError
from domain.turns import strip_media


def read_chats(path: Path) -> list[Chat]:
    """Return the conversations of a ShareGPT or OpenAI-style JSONL file, in file order.

    Media placeholders are taken out: fine-tuning here is on text. Rows in which the assistant says nothing are
    left out.

    Raises:
        MissingFileError: no such file.
        DataRejectedError: a line is not a conversation (the message names it), or none has an answer.
    """
    try:
        lines = path.read_bytes().split(b"\n")
    except OSError as error:
        raise MissingFileError(f"cannot read: {error.strerror}", where=path) from error
    chats = []
    for number, line in enumerate(lines, start=1):
        if line.strip():
            chat = _chat(line, f"{path}:{number}")
            if any(message.role == "assistant" and (message.content or message.tool_calls) for message in chat):
                chats.append(chat)
    if not chats:
        raise DataRejectedError("no row with an answer of the assistant to learn from", where=path)
    return chats


def _chat(line: bytes, where: str) -> Chat:
    try:
        row: Any = orjson.loads(line)
    except orjson.JSONDecodeError as error:
        raise DataRejectedError(f"invalid JSON: {error}", where=where) from error
    turns = first_present(row, ("conversations", "messages")) if isinstance(row, dict) else None
    try:
        chat = parse_turns(turns)
    except DataRejectedError as error:
        raise DataRejectedError(error.what, where=where, hint=error.hint) from error
    return tuple(evolve(message, content=strip_media(message.content)) for message in chat)
