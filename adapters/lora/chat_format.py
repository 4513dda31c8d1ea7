"""From a conversation to the text that a base model was trained to continue: its own chat template."""

from __future__ import annotations

import json
from typing import Any

import jinja2

from domain.chats import Chat, Message
from domain.errors import DataRejectedError

_END_OF_LINE = "\n"


def render_prompt(tokenizer: Any, chat: Chat) -> str:
    """Return the conversation as text, up to where the assistant is to speak.

    A base model without a chat template gets the turns' contents, one below the other.

    Raises:
        DataRejectedError: the template does not take this conversation (some know no system turn).
    """
    if not tokenizer.chat_template:
        return "".join(_with_calls(message) + _END_OF_LINE for message in chat)
    return _apply(tokenizer, chat, add_generation_prompt=True)


def render_answer(tokenizer: Any, chat: Chat, prompt: str) -> str:
    """Return what the assistant says in the last turn of `chat`, with the mark that ends its turn.

    Args:
        tokenizer: the base model's tokenizer.
        chat: a conversation that ends with the assistant.
        prompt: `render_prompt` of everything before.
    """
    if tokenizer.chat_template:
        whole = _apply(tokenizer, chat, add_generation_prompt=False)
        if whole.startswith(prompt):
            return whole[len(prompt) :].rstrip()
    return _with_calls(chat[-1]) + (tokenizer.eos_token or _END_OF_LINE)


def prompt_tokens(tokenizer: Any, text: str) -> list[int]:
    """Return the token ids of a rendered prompt; a chat template brings its special tokens along."""
    ids: list[int] = tokenizer(text, add_special_tokens=not tokenizer.chat_template).input_ids
    return ids


def _apply(tokenizer: Any, chat: Chat, *, add_generation_prompt: bool) -> str:
    """Apply the template; tool calls that it leaves out are written into the contents, so that they are not lost."""
    text = _rendered(tokenizer, chat, [_as_dict(message) for message in chat], add_generation_prompt)
    if not any(message.tool_calls for message in chat):
        return text
    contents = [{"role": message.role, "content": message.content} for message in chat]
    if text != _rendered(tokenizer, chat, contents, add_generation_prompt):
        return text
    written = [{"role": message.role, "content": _with_calls(message)} for message in chat]
    return _rendered(tokenizer, chat, written, add_generation_prompt)


def _as_dict(message: Message) -> dict[str, Any]:
    calls = [
        {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": _object(call.arguments)}}
        for call in message.tool_calls
    ]
    optional = {"tool_calls": calls, "tool_call_id": message.tool_call_id, "name": message.name}
    present = {key: value for key, value in optional.items() if value}
    return {"role": message.role, "content": message.content, **present}


def _with_calls(message: Message) -> str:
    calls = [{"name": call.name, "arguments": _object(call.arguments)} for call in message.tool_calls]
    written = [f"<tool_call>\n{json.dumps(call, ensure_ascii=False)}\n</tool_call>" for call in calls]
    return "\n".join(part for part in (message.content, *written) if part)


def _object(arguments: str) -> Any:
    """Return the arguments as templates expect them, an object; text that is no JSON stays text."""
    try:
        return json.loads(arguments)
    except ValueError:
        return arguments


def _rendered(tokenizer: Any, chat: Chat, messages: list[dict[str, Any]], add_generation_prompt: bool) -> str:
    try:
        text: str = tokenizer.apply_chat_template(
            messages, tokenize=False, add_generation_prompt=add_generation_prompt
        )
    except (jinja2.TemplateError, ValueError, TypeError) as error:
        roles = ", ".join(message.role for message in chat)
        raise DataRejectedError(f"the base model's chat template refuses the turns {roles}: {error}") from error
    return text
