"""From one row of an adapter's training data to the text that the router reads, or the reason why there is none."""

from __future__ import annotations

import json
from collections.abc import Mapping
from enum import StrEnum
from itertools import zip_longest
from typing import Any

from attrs import field, frozen

from domain.chats import OTHER_ROLES, USER_ROLES, first_present
from domain.marked_text import marked_turns
from domain.turns import TurnChoice, chosen_text, join_parts, plain_text


class Layout(StrEnum):
    """How a row holds its prompt.

    Attributes:
        TURNS: a list of turns, or JSON text of one.
        COLUMNS: plain columns (LLaMA-Factory's "alpaca").
        MARKED: a text that a chat template has rendered; see :mod:`domain.marked_text`.
    """

    TURNS = "turns"
    COLUMNS = "columns"
    MARKED = "marked"


class RejectReason(StrEnum):
    """Why a line of source data gives no routing text."""

    LINE_TOO_LONG = "line-too-long"
    NOT_UTF8 = "not-utf-8"
    LONE_SURROGATE = "lone-surrogate"
    INVALID_JSON = "invalid-json"
    NOT_AN_OBJECT = "not-an-object"
    NO_CONVERSATION = "no-conversation"
    CONVERSATION_NOT_A_LIST = "conversation-not-a-list"
    EMPTY_CONVERSATION = "empty-conversation"
    MALFORMED_TURN = "malformed-turn"
    UNKNOWN_ROLE = "unknown-role"
    NO_HUMAN_TURN = "no-human-turn"
    EMPTY_TEXT = "empty-text"
    INVALID_ROW = "invalid-row"


@frozen
class Rejection:
    """A line that cannot be used.

    Attributes:
        reason: the kind of fault, by which lines are counted.
        detail: what exactly was met, for a person.
    """

    reason: RejectReason
    detail: str


ANSWER_COLUMNS = ("completion", "output", "response", "answer", "chosen", "target")
# Looking up an enum's member costs 0.1 us in Python 3.11, several times per row of millions.
_TURNS, _COLUMNS, _LAST = Layout.TURNS, Layout.COLUMNS, TurnChoice.LAST


@frozen
class RowFormat:
    """Where a source data set keeps its conversation; the default reads ShareGPT and OpenAI-style rows.

    Attributes:
        layout: turns, plain columns or a marked text.
        columns: for turns, the columns that may hold the list, the first that is present counts; for plain
            columns, the columns whose texts are joined to the prompt, the first of which must be there; for a
            marked text, its column.
        role_tags: keys that may name a turn's speaker, the first that is present counts.
        content_tags: keys that may hold a turn's content.
        user_roles: speakers that are the user; compared without case and surrounding space.
        other_roles: speakers that are known and not the user.
        answers: columns that may hold the reference answer where the conversation does not, the first that is
            present counts.
        otherwise: formats of further files of the same adapter, for rows that do not have this one's columns.
    """

    layout: Layout = field(default=Layout.TURNS, converter=Layout)
    columns: tuple[str, ...] = ("conversations", "messages")
    role_tags: tuple[str, ...] = ("from", "role")
    content_tags: tuple[str, ...] = ("value", "content")
    user_roles: frozenset[str] = USER_ROLES
    other_roles: frozenset[str] = OTHER_ROLES
    answers: tuple[str, ...] = ANSWER_COLUMNS
    otherwise: tuple[RowFormat, ...] = ()
    _roles: Mapping[str, bool] = field(init=False, eq=False, repr=False)

    def __attrs_post_init__(self) -> None:
        """Build the look-up by which a role as written is known as the user's (True) or another's (False)."""
        roles = dict.fromkeys(self.other_roles, False) | dict.fromkeys(self.user_roles, True)
        object.__setattr__(self, "_roles", roles)

    def is_user(self, role: str) -> bool | None:
        """Tell whether the speaker is the user; None for a role that nobody declared."""
        known = self._roles.get(role)
        return self._roles.get(role.strip().casefold()) if known is None else known

    def of(self, row: Any) -> RowFormat:
        """Return the format that this row has: this one, or the first of the others that finds its columns."""
        found = (fmt for fmt in (self, *self.otherwise) if not _lacks_columns(_extract_prompt(row, fmt, _LAST)))
        return next(found, self) if self.otherwise else self


DEFAULT_FORMAT = RowFormat()


def extract_prompt(row: Any, fmt: RowFormat = DEFAULT_FORMAT, turn: TurnChoice = TurnChoice.LAST) -> str | Rejection:
    """Return the routing text of one parsed row, or why it has none; see :mod:`domain.turns` for what is read.

    Every turn's role is checked, so that an unknown speaker is never silently taken for the user or skipped. A field
    that is null is absent.
    """
    found = _extract_prompt(row, fmt, turn)
    if fmt.otherwise and _lacks_columns(found):
        others = (_extract_prompt(row, other, turn) for other in fmt.otherwise)
        return next((other for other in others if not _lacks_columns(other)), found)
    return found


def _lacks_columns(found: str | Rejection) -> bool:
    return isinstance(found, Rejection) and found.reason is RejectReason.NO_CONVERSATION


def _extract_prompt(row: Any, fmt: RowFormat, turn: TurnChoice) -> str | Rejection:
    if type(row) is not dict:
        return Rejection(RejectReason.NOT_AN_OBJECT, f"the row is a {type(row).__name__}, not an object")
    if fmt.layout is not _TURNS:
        return _from_columns(row, fmt) if fmt.layout is _COLUMNS else _from_marks(row, fmt.columns[0], turn)
    for column in fmt.columns:
        if (turns := row.get(column)) is not None:
            break
    else:
        return Rejection(RejectReason.NO_CONVERSATION, f"no {' or '.join(map(repr, fmt.columns))}")
    if type(turns) is not list and type(turns := as_list(turns)) is not list:
        return Rejection(RejectReason.CONVERSATION_NOT_A_LIST, f"{column!r} is a {type(turns).__name__}")
    if not turns:
        return Rejection(RejectReason.EMPTY_CONVERSATION, f"{column!r} is empty")
    found = _user_contents(turns, fmt)
    if isinstance(found, Rejection):
        return found
    if not found:
        return Rejection(RejectReason.NO_HUMAN_TURN, f"none of {len(turns)} turns is from the user")
    return _routed(found, turn)


def turns_of(row: dict[str, Any], fmt: RowFormat) -> Any:
    """Return what the first column of turns that is present holds, as a list where it is one."""
    return as_list(first_present(row, fmt.columns))


def as_list(turns: Any) -> Any:
    """Return turns that a table holds as JSON text, or as one list per field, as a list; anything else as it is."""
    if type(turns) is str and turns.lstrip().startswith("["):
        try:
            return json.loads(turns)
        except (ValueError, RecursionError):
            return turns
    if type(turns) is dict and turns and all(type(values) is list for values in turns.values()):
        return [dict(zip(turns, row, strict=True)) for row in zip_longest(*turns.values())]
    return turns


def row_id(row: Any) -> str | None:
    """Return the row's own ``id`` as text, or None when it has none that is a non-empty string or an integer."""
    value = row.get("id") if type(row) is dict else None
    if type(value) is int:
        return str(value)
    return value if type(value) is str and value else None


def _user_contents(turns: list[Any], fmt: RowFormat) -> list[Any] | Rejection:
    """Return the contents of the user's turns, or why a turn cannot be read."""
    role_tag, content_tag, roles = fmt.role_tags[0], fmt.content_tags[0], fmt._roles
    contents = []
    try:  # nearly all rows are in the first form exactly as declared, and there may be millions
        for turn in turns:
            if roles[turn[role_tag]]:
                contents.append(turn[content_tag])
    except (LookupError, TypeError):
        return _user_contents_in_any_form(turns, fmt)
    return _user_contents_in_any_form(turns, fmt) if None in contents else contents


def _user_contents_in_any_form(turns: list[Any], fmt: RowFormat) -> list[Any] | Rejection:
    contents = []
    for number, turn in enumerate(turns, start=1):
        if type(turn) is not dict:
            return Rejection(RejectReason.MALFORMED_TURN, f"turn {number} is a {type(turn).__name__}")
        role = first_present(turn, fmt.role_tags)
        if type(role) is not str:
            tags = " or ".join(fmt.role_tags)
            return Rejection(RejectReason.MALFORMED_TURN, f"turn {number} names no speaker in {tags}")
        from_user = fmt.is_user(role)
        if from_user is None:
            return Rejection(RejectReason.UNKNOWN_ROLE, f"turn {number} is from {role[:40]!r}")
        if from_user:
            contents.append(first_present(turn, fmt.content_tags))
    return contents


def _routed(contents: list[Any], turn: TurnChoice) -> str | Rejection:
    """Return the text that is routed of the human turns' contents, each a text or a list of content parts."""
    said = []
    for content in contents:
        text = join_parts(content)
        if text is None:
            return Rejection(RejectReason.MALFORMED_TURN, f"the human turn's content is a {type(content).__name__}")
        said.append(plain_text(text))
    return chosen_text(said, turn) or Rejection(RejectReason.EMPTY_TEXT, "the human turn has no text")


def _from_columns(row: dict[str, Any], fmt: RowFormat) -> str | Rejection:
    first, *others = fmt.columns
    if row.get(first) is None:
        return Rejection(RejectReason.NO_CONVERSATION, f"no {first!r}")
    values = [row[first], *(row[name] for name in others if row.get(name) is not None)]
    if any(type(value) is not str for value in values):
        return Rejection(RejectReason.MALFORMED_TURN, f"{' and '.join(fmt.columns)} are not all texts")
    return _routed(["\n".join(value for value in values if value.strip())], _LAST)


def _from_marks(row: dict[str, Any], column: str, turn: TurnChoice) -> str | Rejection:
    text = row.get(column)
    if text is None:
        return Rejection(RejectReason.NO_CONVERSATION, f"no {column!r}")
    found = marked_turns(text) if type(text) is str else None
    if found is None:
        return Rejection(RejectReason.NO_HUMAN_TURN, f"{column!r} holds no user's turn in a chat template's marks")
    return _routed(found[1], turn)
