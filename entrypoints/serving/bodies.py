"""Reading requests: JSON, conversations, names of sessions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson
from starlette.requests import ClientDisconnect, Request

from application.serving.sessions import HEADERS
from domain.chats import Chat, Message, as_chat, parse_turns
from domain.errors import DataRejectedError
from entrypoints.serving.errors import ApiError, bad_request


async def read_object(request: Request) -> dict[str, Any]:
    """Return the request's JSON object; raises ApiError when it is none."""
    try:
        value = orjson.loads(await request.body())
    except orjson.JSONDecodeError as error:
        raise bad_request(f"the body is not JSON: {error}") from None
    except ClientDisconnect:
        raise ApiError(400, "the body ended early", code="invalid_request_error") from None
    if not isinstance(value, dict):
        raise bad_request("the body is not a JSON object")
    return value


def read_chat(messages: Any, param: str = "messages") -> Chat:
    """Return the conversation in a list of OpenAI's messages; raises ApiError that names what is wrong."""
    try:
        return parse_turns(_with_texts(messages))
    except DataRejectedError as error:
        raise bad_request(str(error), param) from None


def read_prompt(value: Any, *, named: bool) -> Chat | None:
    """Return the conversation that a plain prompt stands for.

    None for what cannot be routed (several prompts, token ids), which is an error unless the model is `named`.
    """
    if isinstance(value, list) and len(value) == 1 and isinstance(value[0], str):
        value = value[0]
    if isinstance(value, str):
        return as_chat(value)
    if named and isinstance(value, list) and value:
        return None
    raise bad_request("prompt is not one text; name a model to send several, or token ids", "prompt")


def read_input(value: Any) -> Chat:
    """Return the conversation in the ``input`` of the Decisions API: a text, or a list of messages and calls."""
    if isinstance(value, str):
        return as_chat(value)
    if not isinstance(value, list):
        raise bad_request("input is neither a text nor a list", "input")
    turns: list[Any] = []
    for item in value:
        kind = item.get("type", "message") if isinstance(item, dict) else None
        if kind in ("function_call", "custom_tool_call"):
            turns.append({"role": "assistant", "content": ""})
        elif kind in ("function_call_output", "custom_tool_call_output"):
            turns.append({"role": "tool", "content": ""})
        else:
            turns.append(item)
    return read_chat(turns, "input")


def session_names(request: Request, body: Mapping[str, Any]) -> dict[str, str]:
    """Return names of the conversation by where they came from."""
    names = {source: request.headers.get(source, "") for source in HEADERS if source != "prompt_cache_key"}
    cache_key = body.get("prompt_cache_key")
    return {**names, "prompt_cache_key": cache_key if isinstance(cache_key, str) else ""}


def last_user(chat: Chat) -> str:
    """Return the newest user turn, or an empty text."""
    return next((turn.content for turn in reversed(chat) if turn.role == "user"), "")


def _with_texts(messages: Any) -> Any:
    """Give turns without content (an assistant that only calls tools) an empty one."""
    if not isinstance(messages, list):
        return messages
    return [
        {**turn, "content": ""} if isinstance(turn, dict) and turn.get("content", "") is None else turn
        for turn in messages
    ]


__all__ = ["Message", "last_user", "read_chat", "read_input", "read_object", "read_prompt", "session_names"]
