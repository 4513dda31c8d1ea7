"""Which of the shapes that training data comes in a source has, told by its first rows."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from domain.chats import ROLES, first_present
from domain.conversations import DEFAULT_FORMAT, Layout, RowFormat, as_list, extract_prompt
from domain.errors import UsageError
from domain.marked_text import marked_turns

SAMPLE: Final = 64
"""Rows from the beginning of a source that are looked at."""

_TURN_COLUMNS = ("prompt", "conversation", "dialog", "dialogue", "chat", "turns", "chosen")
_TEXT_COLUMNS = (("prompt",), ("instruction", "input"), ("question",), ("query",), ("input",))
_SPEAKERS = ("user", "assistant")
_OF_TURNS = ("messages", "role", "content", *_SPEAKERS)
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
            ``role``, ``content``, ``user`` and ``assistant`` (the turn's fields, and how the two are called);
            besides, ``answer`` (the reference answer).

    Raises:
        UsageError: an unknown meaning, or neither a prompt nor messages, or an assistant of another one's name.
    """
    known = ("prompt", "input", *_OF_TURNS, "answer")
    if unknown := sorted(columns.keys() - set(known)):
        raise UsageError(f"columns: {unknown[0]!r} is not known", hint=f"known: {', '.join(known)}")
    default = DEFAULT_FORMAT
    answers = (columns["answer"],) if "answer" in columns else default.answers
    if "messages" in columns and "prompt" not in columns:
        user, assistant = ({columns[who].strip().casefold()} if who in columns else set() for who in _SPEAKERS)
        if other := next((ROLES[name] for name in assistant if ROLES.get(name, "assistant") != "assistant"), None):
            raise UsageError(f"columns: the assistant cannot be called {columns['assistant']!r}: that is a {other}")
        return RowFormat(
            columns=(columns["messages"],),
            role_tags=(columns["role"],) if "role" in columns else default.role_tags,
            content_tags=(columns["content"],) if "content" in columns else default.content_tags,
            user_roles=frozenset(user or default.user_roles - assistant),
            other_roles=(default.other_roles | assistant) - user,
            answers=answers,
        )
    if "prompt" not in columns or columns.keys() & set(_OF_TURNS):
        raise UsageError(f"columns: name either prompt (and input), or messages (and {', '.join(_OF_TURNS[1:])})")
    texts = tuple(columns[name] for name in ("prompt", "input") if name in columns)
    return RowFormat(Layout.COLUMNS, texts, answers=answers)


def describe_columns(rows: Sequence[Any]) -> str:
    """Return the columns of the first rows, for a person who must say which holds the prompt; "" without any."""
    names = dict.fromkeys(str(name) for row in rows if isinstance(row, dict) for name in row)
    return ", ".join(name[:40] for name in list(names)[:20])


def suggest_columns(rows: Sequence[Any], row_format: RowFormat) -> str:
    """Return what a person could say of rows that give no prompt, as :func:`columns_format` takes it.

    Where a column holds turns, the names found in it: ``messages=dialog,role=who,content=said,user=Student``; else
    ``prompt=COLUMN``. "" where the turns have names that are known.
    """
    named = [row for row in rows if isinstance(row, dict)]
    for column in dict.fromkeys(name for row in named for name in (*row_format.columns, *row)):
        turns = [turn for row in named for turn in _turns(row.get(column))]
        if len(texts := _texts(turns)) > 1:
            break
    else:
        return "prompt=COLUMN"
    role = first_present({name: name for name in texts}, row_format.role_tags)
    role = role or min(texts, key=lambda name: len(set(texts[name])))
    others = {name: texts[name] for name in texts if name != role}
    content = first_present({name: name for name in others}, row_format.content_tags)
    content = content or max(others, key=lambda name: sum(map(len, others[name])))
    names = {"messages": column, "role": role, "content": content, **_speakers(texts[role], row_format)}
    usual = (*(DEFAULT_FORMAT.columns), *DEFAULT_FORMAT.role_tags, *DEFAULT_FORMAT.content_tags)
    odd = {meaning: name for meaning, name in names.items() if name not in usual}
    return ",".join(f"{meaning}={name}" for meaning, name in ({"messages": column} | odd).items()) if odd else ""


def _turns(value: Any) -> list[dict[str, Any]]:
    """Return the turns that a column holds; none where it holds something else."""
    turns = as_list(value)
    return [turn for turn in turns if isinstance(turn, dict)] if isinstance(turns, list) else []


def _texts(turns: Sequence[dict[str, Any]]) -> dict[str, list[str]]:
    """Return the texts that the turns' fields hold, by field."""
    names = dict.fromkeys(name for turn in turns for name in turn)
    texts = {name: [turn[name] for turn in turns if isinstance(turn.get(name), str)] for name in names}
    return {name: found for name, found in texts.items() if found}


def _speakers(found: Sequence[str], row_format: RowFormat) -> dict[str, str]:
    """Return who is the user and who the assistant, as far as their names are not usual: who speaks first asks."""
    names = list(dict.fromkeys(name.strip() for name in found))
    unknown = [name for name in names if row_format.is_user(name) is None]
    user = next((name for name in names if row_format.is_user(name)), None) or (unknown.pop(0) if unknown else None)
    speakers = {} if user is None or DEFAULT_FORMAT.is_user(user) else {"user": user}
    return speakers | ({"assistant": unknown[0]} if unknown else {})
