"""Which of the shapes that training data comes in a source has, told by its first rows."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from attrs import frozen

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
_USUAL = (*DEFAULT_FORMAT.columns, *DEFAULT_FORMAT.role_tags, *DEFAULT_FORMAT.content_tags)
_MOST_SPEAKERS = 4  # more names in a field of unknown meaning are hardly speakers
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
            ``role``, ``content``, ``user`` and ``assistant`` (the turn's fields, and how the two are called,
            whoever has that name elsewhere); besides, ``answer`` (the reference answer).

    Raises:
        UsageError: an unknown meaning, or neither a prompt nor messages, one name for both speakers, or an
            assistant called like a system or a tool.
    """
    known = ("prompt", "input", *_OF_TURNS, "answer")
    if unknown := sorted(columns.keys() - set(known)):
        raise UsageError(f"columns: {unknown[0]!r} is not known", hint=f"known: {', '.join(known)}")
    default = DEFAULT_FORMAT
    answers = (columns["answer"],) if "answer" in columns else default.answers
    if "messages" in columns and "prompt" not in columns:
        user, assistant = ({columns[who].strip().casefold()} if who in columns else set() for who in _SPEAKERS)
        other = next((role for name in assistant if (role := ROLES.get(name)) in ("system", "tool")), None)
        if other or user & assistant:
            taken = f"a {other}" if other else "the user"
            raise UsageError(f"columns: the assistant cannot be called {columns['assistant']!r}: that is {taken}")
        return RowFormat(
            columns=(columns["messages"],),
            role_tags=(columns["role"],) if "role" in columns else default.role_tags,
            content_tags=(columns["content"],) if "content" in columns else default.content_tags,
            user_roles=(default.user_roles | user) - assistant,
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


def suggest_columns(rows: Sequence[Any], row_format: RowFormat) -> tuple[str, tuple[str, ...]]:
    """Return what a person should say of rows that give no prompt, and how, as :func:`columns_format` takes it.

    Where a column holds turns, the names found in it: ``messages=dialog,role=who,content=said,user=Student``; else
    ``prompt=COLUMN``. Several where the person must choose; none where nothing can be said.
    """
    named = [row for row in rows if isinstance(row, dict)]
    columns = dict.fromkeys(name for row in named for name in row)
    found = [one for name in columns if (one := _turn_column(name, named, row_format)) is not None]
    if not found:
        return "Say which holds the prompt", ("prompt=COLUMN",)
    best = max(found, key=lambda one: one.fit)
    what, speakers = _speakers(best.speakers, row_format)
    names = {"messages": best.column, "role": best.role, "content": best.content}
    odd = {meaning: name for meaning, name in names.items() if name not in _USUAL}
    told = [{"messages": best.column} | odd | one for one in speakers if odd or one]
    choices = tuple(",".join(f"{meaning}={name}" for meaning, name in one.items()) for one in told)
    return what if choices or not speakers else "", choices


@frozen
class _TurnColumn:
    column: str
    role: str
    content: str
    speakers: list[str]
    fit: tuple[bool | float, ...]


def _turn_column(column: str, rows: Sequence[dict[str, Any]], row_format: RowFormat) -> _TurnColumn | None:
    """Return how a column that holds turns does so; None where nothing tells that those are turns."""
    texts = _texts([turn for row in rows for turn in _turns(row.get(column))])
    if len(texts) < 2 or "," in f"{column}{''.join(texts)}":
        return None
    known = {
        name: 2 * sum(row_format.is_user(text) is not None for text in found) >= len(found)
        for name, found in texts.items()
    }
    usual_role = first_present({name: name for name in texts}, (*row_format.role_tags, *DEFAULT_FORMAT.role_tags))
    role = usual_role or min(texts, key=lambda name: (not known[name], len(set(texts[name]))))
    others = {name: texts[name] for name in texts if name != role}
    tags = (*row_format.content_tags, *DEFAULT_FORMAT.content_tags)
    usual = first_present({name: name for name in others}, tags)
    content = usual or max(others, key=lambda name: sum(map(len, others[name])))
    speakers = list(dict.fromkeys(name.strip() for name in texts[role]))
    of_turns = column in _TURN_COLUMNS
    repeated = 1 < len(speakers) < len(texts[role]) / 2
    all_usual = bool(usual_role and usual)
    if not (known[role] or all_usual or (len(speakers) <= _MOST_SPEAKERS and (of_turns or repeated))):
        return None
    length = sum(map(len, texts[content])) / len(texts[content])
    fit = (column in row_format.columns, known[role], all_usual, of_turns, length)
    return _TurnColumn(column, role, content, speakers, fit)


def _turns(value: Any) -> list[dict[str, Any]]:
    """Return the turns that a column holds; none where it holds something else."""
    turns = as_list(value)
    return [turn for turn in turns if isinstance(turn, dict)] if isinstance(turns, list) else []


def _texts(turns: Sequence[dict[str, Any]]) -> dict[str, list[str]]:
    """Return the texts that the turns' fields hold, by field."""
    names = dict.fromkeys(name for turn in turns for name in turn)
    texts = {name: [turn[name] for turn in turns if isinstance(turn.get(name), str)] for name in names}
    return {name: found for name, found in texts.items() if found}


def _speakers(names: Sequence[str], row_format: RowFormat) -> tuple[str, tuple[dict[str, str], ...]]:
    """Return what to say of speakers whose names are not known, and the choices: who speaks first asks."""
    unknown = [name for name in names if row_format.is_user(name) is None]
    known = {who: next((name for name in names if _is(who, name, row_format)), None) for who in _SPEAKERS}
    odd = {who: name for who, name in known.items() if name and not _is(who, name, DEFAULT_FORMAT)}
    missing = [who for who in _SPEAKERS if known[who] is None]
    pairs = (odd | dict(zip(missing, unknown, strict=False))).items()
    found = {who: name for who, name in pairs if "," not in name}
    if unknown and not (missing and found):
        whose = f"turns of {unknown[0][:40]!r}"
        if odd or "," in unknown[0]:  # an option names one user and one assistant
            return f"The {whose} cannot be read: rename the speaker, or leave those rows out", ()
        return f"The {whose} are of an unknown speaker. Say if it is the user or the assistant", tuple(
            {who: unknown[0]} for who in _SPEAKERS
        )
    guess = " (who asks is a guess)" if len(unknown) > 1 else ""
    return f"Say what its turns are called{guess}", (found,)


def _is(who: str, name: str, row_format: RowFormat) -> bool:
    """Tell whether a speaker is known as the user, or as the assistant (who is neither system nor tool)."""
    if who == "user":
        return row_format.is_user(name) is True
    return row_format.is_user(name) is False and ROLES.get(name.casefold()) not in ("system", "tool")
