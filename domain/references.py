"""What an adapter's own training data answers to a prompt: the answer that a router's choice is measured by."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from attrs import evolve, frozen

from domain.chats import ROLES, Chat, Message, first_present, parse_turns, with_system
from domain.conversations import Layout, Rejection, RowFormat, extract_prompt, turns_of
from domain.errors import DataRejectedError
from domain.marked_text import marked_exchanges
from domain.turns import TurnChoice, plain_text, strip_media


@frozen
class ReferenceAnswer:
    """A held-out prompt with the answer that its row of training data gives.

    Attributes:
        adapter: whose training data it is from.
        source_id: the source row, as in :class:`domain.samples.RoutingSample`.
        text: the routed text, which is unique in a data set.
        chat: the conversation up to the answer, system turns included.
        answer: what the assistant says, or which tools it calls.
    """

    adapter: str
    source_id: str
    text: str
    chat: Chat
    answer: Message


def reference_answer(row: Any, fmt: RowFormat, turn: TurnChoice) -> tuple[Chat, Message] | None:
    """Return the conversation up to the answer to the routed turn, and the answer; None where the row has none.

    Args:
        row: a parsed row that gives a routing text.
        fmt: where it keeps its conversation.
        turn: which human turns were routed; where they are several, the answer is the one to the newest.
    """
    fmt = fmt.of(row)
    try:
        chat = _conversation(row, fmt)
        start = _routed_turn(chat, turn)
        if start is None:
            return None
        found = _answer_after(chat, start)
        if found is not None:
            return chat[:found], chat[found]
        beside = _answer_beside(row, fmt)
    except DataRejectedError:
        return None
    return None if beside is None else (chat[: start + 1], beside)


def whole_conversation(row: Any, fmt: RowFormat) -> Chat:
    """Return all that a row says, the answers in columns of their own included, without media placeholders.

    Args:
        row: a parsed row.
        fmt: where it keeps its conversation.

    Raises:
        DataRejectedError: the row has no conversation.
    """
    fmt = fmt.of(row)
    if isinstance(problem := extract_prompt(row, fmt), Rejection):
        raise DataRejectedError(problem.detail)
    chat = tuple(one for one in _conversation(row, fmt) if one.role != "assistant" or _says_something(one))
    beside = _answer_beside(row, fmt) if chat[-1].role != "assistant" else None
    system = row.get("system")
    led = with_system(chat, system if isinstance(system, str) and system.strip() else None)
    return led if beside is None else (*led, beside)


def _conversation(row: dict[str, Any], fmt: RowFormat) -> Chat:
    if fmt.layout is Layout.TURNS:
        return _chat(turns_of(row, fmt), fmt)
    if fmt.layout is Layout.MARKED:
        pairs = marked_exchanges(row[fmt.columns[0]])
        turns = [("user", asked) for asked, _ in pairs], [("assistant", answer) for _, answer in pairs]
        return tuple(Message(role, strip_media(said)) for pair in zip(*turns, strict=True) for role, said in pair)
    values = (row.get(name) for name in fmt.columns)
    text = "\n".join(value for value in values if isinstance(value, str) and value.strip())
    return (Message("user", strip_media(text)),)


def _chat(turns: Any, fmt: RowFormat) -> Chat:
    """Return turns as a chat, the speakers named as chat templates name them, without media placeholders."""
    turns = [turns] if isinstance(turns, dict) else turns
    if not isinstance(turns, list):
        raise DataRejectedError("the conversation is not a list of turns")
    chat = parse_turns([_named(turn, fmt) for turn in turns])
    return tuple(evolve(message, content=strip_media(message.content)) for message in chat)


def _named(turn: Any, fmt: RowFormat) -> Any:
    """Return a turn with its fields under the usual names; a speaker that only the format knows answers."""
    if not isinstance(turn, dict):
        return turn
    speaker = first_present(turn, fmt.role_tags)
    if isinstance(speaker, str):
        known = speaker.strip().casefold()
        speaker = "user" if fmt.is_user(speaker) else known if ROLES.get(known, "user") != "user" else "assistant"
    return {**turn, "from": speaker, "value": first_present(turn, fmt.content_tags)}


def _routed_turn(chat: Chat, turn: TurnChoice) -> int | None:
    """Return the position of the user's turn that is answered."""
    asked = [place for place, one in enumerate(chat) if one.role == "user" and plain_text(one.content)]
    if not asked:
        return None
    return asked[0] if turn is TurnChoice.FIRST else asked[-1]


def _answer_after(chat: Sequence[Message], start: int) -> int | None:
    """Return the position of the first answer after `start` and before the user speaks again."""
    for place in range(start + 1, len(chat)):
        if chat[place].role == "user" and plain_text(chat[place].content):
            return None
        if _says_something(chat[place]):
            return place
    return None


def _says_something(message: Message) -> bool:
    return message.role == "assistant" and bool(message.content.strip() or message.tool_calls)


def _answer_beside(row: dict[str, Any], fmt: RowFormat) -> Message | None:
    """Return the answer that stands in a column of its own, as text or as turns that may repeat the prompt."""
    value = first_present(row, fmt.answers)
    if isinstance(value, str):
        return Message("assistant", value.strip()) if value.strip() else None
    if value is None:
        return None
    chat = _chat(value, fmt)
    last = max((place for place, one in enumerate(chat) if one.role == "user"), default=-1)
    found = _answer_after(chat, last)
    return None if found is None else chat[found]
