"""From one row of an adapter's training data to the text that the router reads, or the reason why there is none."""

from __future__ import annotations

import re
from collections.abc import Mapping
from enum import StrEnum
from typing import Any

from attrs import field, frozen

from domain.samples import normalise_text


class TurnChoice(StrEnum):
    """Which human turns of a conversation make the routing text."""

    FIRST = "first"
    LAST = "last"
    ALL = "all"


class Layout(StrEnum):
    """How a row holds its prompt: a list of turns, or plain columns (LLaMA-Factory's "alpaca")."""

    TURNS = "turns"
    COLUMNS = "columns"


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


@frozen
class Rejection:
    """A line that cannot be used.

    Attributes:
        reason: the kind of fault, by which lines are counted.
        detail: what exactly was met, for a person.
    """

    reason: RejectReason
    detail: str


USER_ROLES = frozenset({"human", "user"})
OTHER_ROLES = frozenset(
    (
        *("system", "developer", "gpt", "assistant", "model", "chatgpt", "bot", "bing"),
        *("tool", "tool_call", "tool_response", "function", "function_call", "function_response"),
        *("observation", "ipython"),
    )
)
# Looking up an enum's member costs 0.1 us in Python 3.11, several times per row of millions.
_COLUMNS, _FIRST, _ALL = Layout.COLUMNS, TurnChoice.FIRST, TurnChoice.ALL

PLACEHOLDER = re.compile(r"[ \t]*<(?:image|video|audio)>[ \t]*")


@frozen
class RowFormat:
    """Where a source data set keeps its conversation; the default reads ShareGPT and OpenAI-style rows.

    Attributes:
        layout: turns or plain columns.
        columns: for turns, the columns that may hold the list, the first that is present counts; for plain
            columns, the columns whose texts are joined to the prompt, the first of which must be there.
        role_tags: keys that may name a turn's speaker, the first that is present counts.
        content_tags: keys that may hold a turn's content.
        user_roles: speakers that are the user; compared without case and surrounding space.
        other_roles: speakers that are known and not the user.
    """

    layout: Layout = field(default=Layout.TURNS, converter=Layout)
    columns: tuple[str, ...] = ("conversations", "messages")
    role_tags: tuple[str, ...] = ("from", "role")
    content_tags: tuple[str, ...] = ("value", "content")
    user_roles: frozenset[str] = USER_ROLES
    other_roles: frozenset[str] = OTHER_ROLES
    _roles: Mapping[str, bool] = field(init=False, eq=False, repr=False)

    def __attrs_post_init__(self) -> None:
        """Build the look-up by which a role as written is told to be the user's (True) or another's (False)."""
        roles = dict.fromkeys(self.other_roles, False) | dict.fromkeys(self.user_roles, True)
        object.__setattr__(self, "_roles", roles)

    def is_user(self, role: str) -> bool | None:
        """Tell whether the speaker is the user; None for a role that nobody declared."""
        known = self._roles.get(role)
        return self._roles.get(role.strip().casefold()) if known is None else known


DEFAULT_FORMAT = RowFormat()


def extract_prompt(row: Any, fmt: RowFormat = DEFAULT_FORMAT, turn: TurnChoice = TurnChoice.FIRST) -> str | Rejection:
    """Return the routing text of one parsed row, or why it has none.

    Every turn's role is checked, so that an unknown speaker is never silently taken for the user or skipped.
    Media placeholders (``<image>``, ``<video>``, ``<audio>``) are taken out and surrounding space is stripped.
    """
    if type(row) is not dict:
        return Rejection(RejectReason.NOT_AN_OBJECT, f"the row is a {type(row).__name__}, not an object")
    if fmt.layout is _COLUMNS:
        return _from_columns(row, fmt)
    for column in fmt.columns:
        if column in row:
            break
    else:
        return Rejection(RejectReason.NO_CONVERSATION, f"no {' or '.join(map(repr, fmt.columns))}")
    turns = row[column]
    if type(turns) is not list:
        return Rejection(RejectReason.CONVERSATION_NOT_A_LIST, f"{column!r} is a {type(turns).__name__}")
    if not turns:
        return Rejection(RejectReason.EMPTY_CONVERSATION, f"{column!r} is empty")
    found = _user_contents(turns, fmt)
    if isinstance(found, Rejection):
        return found
    if not found:
        return Rejection(RejectReason.NO_HUMAN_TURN, f"none of {len(turns)} turns is from the user")
    if turn is not _ALL:
        return _clean(found[0 if turn is _FIRST else -1])
    texts = [_clean(content) for content in found]
    usable = [text for text in texts if isinstance(text, str)]
    return "\n".join(usable) if usable else texts[0]


def row_id(row: Any) -> str | None:
    """Return the row's own ``id`` as text, or None when it has none that is a non-empty string or an integer."""
    value = row.get("id") if type(row) is dict else None
    if type(value) is int:
        return str(value)
    return value if type(value) is str and value else None


def _user_contents(turns: list[Any], fmt: RowFormat) -> list[Any] | Rejection:
    """Return the contents of the user's turns, or why a turn cannot be told."""
    role_tag, content_tag, roles = fmt.role_tags[0], fmt.content_tags[0], fmt._roles
    contents = []
    try:  # nearly all rows are in the first form exactly as declared, and there may be millions
        for turn in turns:
            if roles[turn[role_tag]]:
                contents.append(turn[content_tag])
    except (LookupError, TypeError):
        return _user_contents_in_any_form(turns, fmt)
    return contents


def _user_contents_in_any_form(turns: list[Any], fmt: RowFormat) -> list[Any] | Rejection:
    contents = []
    for number, turn in enumerate(turns, start=1):
        if type(turn) is not dict:
            return Rejection(RejectReason.MALFORMED_TURN, f"turn {number} is a {type(turn).__name__}")
        role = _first_present(turn, fmt.role_tags)
        if type(role) is not str:
            tags = " or ".join(fmt.role_tags)
            return Rejection(RejectReason.MALFORMED_TURN, f"turn {number} names no speaker in {tags}")
        from_user = fmt.is_user(role)
        if from_user is None:
            return Rejection(RejectReason.UNKNOWN_ROLE, f"turn {number} is from {role[:40]!r}")
        if from_user:
            contents.append(_first_present(turn, fmt.content_tags))
    return contents


def _first_present(turn: dict[str, Any], tags: tuple[str, ...]) -> Any:
    for tag in tags:
        if tag in turn:
            return turn[tag]
    return None


def _clean(content: Any) -> str | Rejection:
    """Return the text of one human turn, given as text or as a list of content parts."""
    if type(content) is list:
        content = _join_parts(content)
    if type(content) is not str:
        return Rejection(RejectReason.MALFORMED_TURN, f"the human turn's content is a {type(content).__name__}")
    content = content.removeprefix("<image>")  # where it nearly always stands; spares the search
    if "<" in content:
        content = PLACEHOLDER.sub(" ", content)
    text: str = content.strip()
    if not text or not (text.isascii() or normalise_text(text)):
        return Rejection(RejectReason.EMPTY_TEXT, "the human turn has no text")
    return text


def _join_parts(parts: list[Any]) -> str | None:
    """Join the text parts by line breaks; parts of other kinds (images, audio) say nothing to a text router."""
    texts = []
    for part in parts:
        if type(part) is str:
            texts.append(part)
        elif type(part) is not dict:
            return None
        elif part.get("type", "text") in ("text", "input_text") and "text" in part:
            if type(part["text"]) is not str:
                return None
            texts.append(part["text"])
    return "\n".join(texts)


def _from_columns(row: dict[str, Any], fmt: RowFormat) -> str | Rejection:
    first, *others = fmt.columns
    if first not in row:
        return Rejection(RejectReason.NO_CONVERSATION, f"no {first!r}")
    values = [row[first], *(row[name] for name in others if row.get(name) is not None)]
    if any(type(value) is not str for value in values):
        return Rejection(RejectReason.MALFORMED_TURN, f"{' and '.join(fmt.columns)} are not all texts")
    return _clean("\n".join(value for value in values if value.strip()))
