"""Whole conversations out of an adapter's own training data, for fine-tuning."""

from __future__ import annotations

from pathlib import Path

from adapters.datasets.source_reader import FileSourceReader
from application.ports.datasets import Source
from domain.chats import Chat
from domain.conversations import Rejection, RejectReason, extract_prompt
from domain.errors import DataRejectedError
from domain.references import whole_conversation


def read_chats(source: Path | Source) -> list[Chat]:
    """Return the conversations of a source of any kind and shape that `generate` reads, in its order.

    Media placeholders are taken out: fine-tuning here is on text. Rows in which the assistant says nothing are
    left out.

    Raises:
        MissingFileError: no such file.
        DataRejectedError: a row is not a conversation (the message names it), or none has an answer.
    """
    chats = []
    source = source if isinstance(source, Source) else Source("", source)
    with FileSourceReader().read_whole(source) as (known, rows):
        for number, row, origin in rows:
            where = f"{origin.path}:{number}"
            if isinstance(row, Rejection):
                raise DataRejectedError(row.detail, where=where)
            try:
                chat = whole_conversation(row[0], known.format)
            except DataRejectedError as error:
                found = known.advice and extract_prompt(row[0], known.format)
                advised = isinstance(found, Rejection) and found.reason is known.advised
                lost = advised and known.advised is RejectReason.NO_CONVERSATION
                what = "no column is known to hold a prompt" if lost else error.what
                hint = error.hint or (known.advice if advised else "")
                raise DataRejectedError(what, where=where, hint=hint) from error
            if any(message.role == "assistant" for message in chat):
                chats.append(chat)
    if not chats:
        raise DataRejectedError("no row with an answer of the assistant to learn from", where=source.path)
    return chats
