"""Which of the shapes that training data comes in a source has, told by its first rows."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from domain.chats import first_present
from domain.conversations import DEFAULT_FORMAT, Layout, RowFormat, extract_prompt
from domain.errors import UsageError
from domain.marked_text import marked_turns

SAMPLE: Final = 64
"""Rows from the beginning of a source that are looked at."""

_TURN_COLUMNS = ("prompt", "conversation", "dialog", "dialogue", "chat", "turns", "chosen")
_TEXT_COLUMNS = (("prompt",), ("instruction", "input"), ("question",), ("query",), ("input",))
_MARKED_COLUMNS = ("text", "prompt", "chosen", "input")


def detect_shape(rows: Sequence[Any]) -> RowFormat:
    """Return the format that most of the rows can be read in, the earlier in the list of shapes if several can.

    The shapes: lists of turns (``conversations``, ``messages``, others), a text with a chat template's marks, and
    plain columns (``prompt``, ``instruction`` with ``input``, …). Rows of no known shape give the default format.
    """
    best, most = DEFAULT_FORMAT, 0
    for candidate in _candidates():
        fitting = sum(isinstance(extract_prompt(row, candidate), str) for row in rows)
        if fitting > most:
            best, most = candidate, fitting
    return best


def _candidates() -> Iterator[RowFormat]:
    yield DEFAULT_FORMAT
    yield from (RowFormat(columns=(name,)) for name in _TURN_COLUMNS)
    yield from (RowFormat(Layout.MARKED, (name,)) for name in _MARKED_COLUMNS)
    yield from (RowFormat(Layout.COLUMNS, names) for names in _TEXT_COLUMNS)


def describe_shape(row_format: RowFormat, rows: Sequence[Any]) -> str:
    """Return in words how the rows are read, for example ``Alpaca: instruction + input``; "" when none can be."""
    row = next((row for row in rows if isinstance(extract_prompt(row, row_format), str)), None)
    if row is None:
        return ""
    names = [name for name in row_format.columns if row.get(name) is not None]
    if row_format.layout is Layout.MARKED:
        found = marked_turns(row[names[0]])
        return f"text with chat template marks ({found[0] if found else ''}): {names[0]}"
    if row_format.layout is Layout.TURNS:
        return f"{_style(row[names[0]], names[0])}: {names[0]}"
    used = " + ".join(row_format.columns)
    if row_format.columns[0] == "instruction":
        return f"Alpaca: {used}"
    if "rejected" in row:
        return f"preference rows: {used}"
    return f"prompt and completion: {used}" if "completion" in row else f"plain columns: {used}"


def _style(turns: Any, name: str) -> str:
    first = turns[0] if isinstance(turns, list) and turns and isinstance(turns[0], dict) else {}
    style = "ShareGPT" if first_present(first, ("from",)) else "OpenAI messages"
    return f"preference rows, {style}" if name == "chosen" else style


def columns_format(columns: Mapping[str, str]) -> RowFormat:
    """Return the format for columns that a person named.

    Args:
        columns: column by meaning: ``prompt`` and maybe ``input`` (texts), or ``messages`` (turns) and maybe
            ``role``, ``content`` and ``user`` (the turn's fields, and how the user is called); besides, ``answer``
            (the reference answer).

    Raises:
        UsageError: an unknown meaning, or neither a prompt nor messages.
    """
    known = ("prompt", "input", "messages", "role", "content", "user", "answer")
    if unknown := sorted(columns.keys() - set(known)):
        raise UsageError(f"columns: {unknown[0]!r} is not known", hint=f"known: {', '.join(known)}")
    default = DEFAULT_FORMAT
    answers = (columns["answer"],) if "answer" in columns else default.answers
    if "messages" in columns and "prompt" not in columns:
        user = columns["user"].strip().casefold() if "user" in columns else None
        return RowFormat(
            columns=(columns["messages"],),
            role_tags=(columns["role"],) if "role" in columns else default.role_tags,
            content_tags=(columns["content"],) if "content" in columns else default.content_tags,
            user_roles=frozenset({user}) if user else default.user_roles,
            other_roles=default.other_roles - {user},
            answers=answers,
        )
    if "prompt" not in columns or columns.keys() & {"messages", "role", "content", "user"}:
        raise UsageError("columns: name either prompt (and input), or messages (and role, content, user)")
    texts = tuple(columns[name] for name in ("prompt", "input") if name in columns)
    return RowFormat(Layout.COLUMNS, texts, answers=answers)


def describe_columns(rows: Sequence[Any]) -> str:
    """Return the columns of the first rows, for a person who must say which holds the prompt; "" without any."""
    names = dict.fromkeys(str(name) for row in rows if isinstance(row, dict) for name in row)
    return ", ".join(name[:40] for name in list(names)[:20])
