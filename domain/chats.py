"""A conversation with a language model: turns of a system, a user, an assistant and its tools."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

from attrs import field, frozen

from domain.errors import DataRejectedError
from domain.turns import TurnChoice, chosen_text, join_parts, plain_text

ROLES: Mapping[str, str] = MappingProxyType(
    {
        **dict.fromkeys(("system", "developer"), "system"),
        **dict.fromkeys(("user", "human", "customer", "client", "visitor", "caller"), "user"),
        **dict.fromkeys(("assistant", "gpt", "model", "chatgpt", "bot", "bing", "ai"), "assistant"),
        **dict.fromkeys(("agent", "representative", "rep", "support"), "assistant"),
        **dict.fromkeys(("function_call", "tool_call"), "assistant"),
        **dict.fromkeys(("tool", "function", "observation", "ipython"), "tool"),
        **dict.fromkeys(("tool_response", "function_response", "tool_result"), "tool"),
    }
)
"""Every speaker that ShareGPT and OpenAI-style rows and help desks name, by the role that chat templates know."""

USER_ROLES = frozenset(name for name, role in ROLES.items() if role == "user")
OTHER_ROLES = frozenset(ROLES) - USER_ROLES

_CALLERS = ("function_call", "tool_call")


def _role(name: str) -> str:
    known = ROLES.get(name.strip().casefold())
    if known is None:
        raise DataRejectedError(f"unknown speaker {name[:40]!r}", hint="use system, user, assistant or tool")
    return known


@frozen
class ToolCall:
    """One call that the assistant makes.

    Attributes:
        name: the tool.
        arguments: its arguments, a JSON object as text.
        id: what the tool's answer refers to, if anything.
    """

    name: str
    arguments: str = "{}"
    id: str | None = None


@frozen
class Message:
    """One turn.

    Attributes:
        role: "system", "user", "assistant" or "tool"; the names in `ROLES` are translated.
        content: its text; empty where an assistant only calls tools.
        tool_calls: what the assistant calls.
        tool_call_id: of a tool's turn, which call it answers.
        name: of a tool's turn, which tool it is.
    """

    role: str = field(converter=_role)
    content: str
    tool_calls: tuple[ToolCall, ...] = ()
    tool_call_id: str | None = None
    name: str | None = None


Chat = tuple[Message, ...]
"""A conversation, oldest turn first."""


def as_chat(prompt: str | Sequence[Message]) -> Chat:
    """Return the conversation that a prompt stands for: a text is one turn of the user."""
    return (Message("user", prompt),) if isinstance(prompt, str) else tuple(prompt)


def with_system(chat: Chat, system: str | None) -> Chat:
    """Return the chat led by `system`, unless there is none or the chat brings a system turn of its own."""
    if system is None or any(message.role == "system" for message in chat):
        return chat
    return (Message("system", system), *chat)


def routing_text(chat: Sequence[Message], turn: TurnChoice = TurnChoice.LAST) -> str:
    """Return the text that the router reads: what the user said, by the rule of `turn`.

    Media placeholders, reminders that programs put into turns, and the tools' answers are not read.

    Args:
        chat: the conversation, oldest turn first.
        turn: the rule that the router was trained with: :attr:`domain.router.RouterCard.turn`.

    Raises:
        DataRejectedError: the user says nothing in this chat, or bytes that are not text.
    """
    text = chosen_text([plain_text(message.content) for message in chat if message.role == "user"], turn)
    if not text.isascii() and any("\ud800" <= letter <= "\udfff" for letter in text):
        raise DataRejectedError("the prompt is not UTF-8 text", hint="write it in UTF-8, for example in a file")
    if not text:
        raise DataRejectedError("the prompt has no text to route on", hint="give a user turn with text")
    return text


def as_turn(message: Message) -> dict[str, Any]:
    """Return a turn in OpenAI's form; `parse_turns` reads it back."""
    calls = [
        {
            **({} if call.id is None else {"id": call.id}),
            "type": "function",
            "function": {"name": call.name, "arguments": call.arguments},
        }
        for call in message.tool_calls
    ]
    optional = {"tool_calls": calls, "tool_call_id": message.tool_call_id, "name": message.name}
    present = {key: value for key, value in optional.items() if value}
    return {"role": message.role, "content": message.content, **present}


def with_calls(message: Message) -> str:
    """Return what a turn says with its tool calls as text, in Hermes' marks."""
    calls = [{"name": call.name, "arguments": parsed_arguments(call.arguments)} for call in message.tool_calls]
    written = [f"<tool_call>\n{json.dumps(call, ensure_ascii=False)}\n</tool_call>" for call in calls]
    return "\n".join(part for part in (message.content, *written) if part)


def parsed_arguments(arguments: str) -> Any:
    """Return a call's arguments as templates expect them, an object; text that is not JSON stays text."""
    try:
        return json.loads(arguments)
    except (ValueError, RecursionError):
        return arguments


def parse_turns(turns: Any) -> Chat:
    """Return the chat in a parsed list of turns: ``from``/``value`` (ShareGPT) or ``role``/``content`` (OpenAI).

    A field that is null is absent. Content may be a list of parts; its texts are joined by line breaks, other kinds
    of parts are left out. Only an assistant that calls tools, and a tool, may say nothing.

    Raises:
        DataRejectedError: it is not such a list; the message names the turn.
    """
    if not isinstance(turns, list) or not turns:
        raise DataRejectedError("the conversation is not a non-empty list of turns")
    return tuple(_message(turn, f"turn {number}") for number, turn in enumerate(turns, start=1))


def first_present(row: Mapping[str, Any], names: Sequence[str]) -> Any:
    """Return the first of these fields that is there and not null, or None."""
    return next((value for name in names if (value := row.get(name)) is not None), None)


def _message(turn: Any, where: str) -> Message:
    if not isinstance(turn, dict):
        raise DataRejectedError(f"{where} is a {type(turn).__name__}, not an object")
    speaker = first_present(turn, ("from", "role"))
    if not isinstance(speaker, str):
        raise DataRejectedError(f"{where} names no speaker")
    role, said = _role(speaker), first_present(turn, ("value", "content"))
    calls = _tool_calls(turn, where)
    if not calls and speaker.strip().casefold() in _CALLERS and (found := _written_calls(said)):
        calls, said = found, None
    content = join_parts("" if said is None and (role in ("assistant", "tool")) else said)
    if content is None:
        raise DataRejectedError(f"{where} has no text")
    return Message(role, content, calls, _name(turn, "tool_call_id"), _name(turn, "name") if role == "tool" else None)


def _tool_calls(turn: Mapping[str, Any], where: str) -> tuple[ToolCall, ...]:
    """Return OpenAI's ``tool_calls``, or its older ``function_call``."""
    calls = turn.get("tool_calls") or [call for call in (turn.get("function_call"),) if call]
    found = [_tool_call(call) for call in calls] if isinstance(calls, list) else [None]
    if None in found:
        raise DataRejectedError(f"{where} has a tool call without a name")
    return tuple(call for call in found if call is not None)


def _written_calls(said: Any) -> tuple[ToolCall, ...]:
    """Return the calls that a ShareGPT ``function_call`` turn has as JSON text; none when it is other text."""
    try:
        value = json.loads(said)
    except (TypeError, ValueError):
        return ()
    found = [_tool_call(call) for call in (value if isinstance(value, list) else [value])]
    return tuple(call for call in found if call is not None) if None not in found else ()


def _tool_call(call: Any) -> ToolCall | None:
    function = call.get("function", call) if isinstance(call, dict) else None
    name = function.get("name") if isinstance(function, dict) else None
    if not isinstance(name, str) or not name or not isinstance(function, dict):
        return None
    arguments = first_present(function, ("arguments", "parameters"))
    text = arguments if isinstance(arguments, str) else json.dumps(arguments or {}, ensure_ascii=False)
    return ToolCall(name, text, _name(call, "id"))


def _name(values: Mapping[str, Any], key: str) -> str | None:
    value = values.get(key)
    return value if isinstance(value, str) and value else None
