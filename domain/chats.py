"""A conversation with a language model: turns of a system, a user and an assistant."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

from attrs import field, frozen

from domain.errors import DataRejectedError

ROLES: Mapping[str, str] = MappingProxyType(
    {
        **dict.fromkeys(("system", "developer"), "system"),
        **dict.fromkeys(("user", "human"), "user"),
        **dict.fromkeys(("assistant", "gpt", "model", "chatgpt", "bot", "bing"), "assistant"),
        **dict.fromkeys(("tool", "function", "observation", "tool_response", "function_response"), "tool"),
    }
)
"""Every speaker that ShareGPT and OpenAI-style rows name, by the role that chat templates know."""

_PLACEHOLDER = re.compile(r"[ \t]*<(?:image|video|audio)>[ \t]*")


def _role(name: str) -> str:
    known = ROLES.get(name.strip().casefold())
    if known is None:
        raise DataRejectedError(f"unknown speaker {name[:40]!r}", hint="use system, user or assistant")
    return known


@frozen
class Message:
    """One turn.

    Attributes:
        role: "system", "user", "assistant" or "tool"; the names in `ROLES` are translated.
        content: its text.
    """

    role: str = field(converter=_role)
    content: str


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


def routing_text(chat: Chat) -> str:
    """Return the text that the router reads: the newest turn of the user, without media placeholders.

    Raises:
        DataRejectedError: the user says nothing in this chat.
    """
    said = [strip_media(message.content) for message in chat if message.role == "user"]
    if not said or not said[-1]:
        raise DataRejectedError("the prompt has no text to route on", hint="give a user turn with text")
    return said[-1]


def strip_media(text: str) -> str:
    """Return the text without ``<image>``, ``<video>`` and ``<audio>`` placeholders and surrounding space."""
    return _PLACEHOLDER.sub(" ", text).strip() if "<" in text else text.strip()


def parse_turns(turns: Any) -> Chat:
    """Return the chat in a parsed list of turns: ``from``/``value`` (ShareGPT) or ``role``/``content`` (OpenAI).

    Content may be a list of parts; its texts are joined by line breaks, other kinds of parts are left out.

    Raises:
        DataRejectedError: it is no such list; the message names the turn.
    """
    if not isinstance(turns, list) or not turns:
        raise DataRejectedError("the conversation is not a non-empty list of turns")
    chat = []
    for number, turn in enumerate(turns, start=1):
        role = turn.get("from", turn.get("role")) if isinstance(turn, dict) else None
        content = _text(turn.get("value", turn.get("content"))) if isinstance(turn, dict) else None
        if not isinstance(role, str) or content is None:
            raise DataRejectedError(f"turn {number} has no speaker or no text")
        chat.append(Message(role, content))
    return tuple(chat)


def _text(content: Any) -> str | None:
    if isinstance(content, str):
        return content
    if not isinstance(content, list):
        return None
    parts = [part.get("text") if isinstance(part, dict) else part for part in content]
    return "\n".join(part for part in parts if isinstance(part, str))
