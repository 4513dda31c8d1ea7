"""From a conversation to the text that a base model was trained to continue: its own chat template."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jinja2

from adapters.lora.text_tokens import tokens_of
from domain.chats import Chat, Message, parsed_arguments, with_calls
from domain.errors import DataRejectedError

_END_OF_LINE = "\n"


def render_prompt(tokenizer: Any, chat: Chat) -> str:
    """Return the conversation as text, up to where the assistant is to speak.

    A base model without a chat template gets the turns' contents, one below the other. A template that reads
    contents as lists of parts gets them so.

    Raises:
        DataRejectedError: the template does not take this conversation (some know no system turn), or leaves out
            what somebody says in it.
    """
    if not tokenizer.chat_template:
        return "".join(with_calls(message) + _END_OF_LINE for message in chat)
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
    return with_calls(chat[-1]) + (tokenizer.eos_token or _END_OF_LINE)


def read_prompt(
    tokenizer: Any, chat: Chat, render: Callable[[Any, Chat], str] = render_prompt
) -> tuple[str, list[int]]:
    """Return a conversation as the model reads it, as text and as token ids.

    What people say is read as text: marks such as ``<|im_start|>`` in it open no turn, see
    :mod:`adapters.lora.text_tokens`.

    Args:
        tokenizer: with the chat template.
        chat: the conversation.
        render: makes a text of a conversation.

    Raises DataRejectedError as `render` does, and where a mark cannot be read as text.
    """
    return tokens_of(tokenizer, chat, lambda safe: render(tokenizer, safe))


def read_answer(tokenizer: Any, chat: Chat) -> list[int]:
    """Return what the assistant says in the last turn of `chat` as token ids, with the mark that ends its turn.

    They go on from :func:`read_prompt` of everything before; raises as that does.
    """

    def render(safe: Chat) -> str:
        return render_answer(tokenizer, safe, render_prompt(tokenizer, safe[:-1]))

    return tokens_of(tokenizer, chat, render, begins=False)[1]


def _apply(tokenizer: Any, chat: Chat, *, add_generation_prompt: bool) -> str:
    """Apply the template; tool calls that it leaves out are written into the contents, so that they are not lost."""
    text = _complete(tokenizer, chat, [_as_dict(message) for message in chat], add_generation_prompt)
    if not any(message.tool_calls for message in chat):
        return text
    contents = [{"role": message.role, "content": message.content} for message in chat]
    if text != _complete(tokenizer, chat, contents, add_generation_prompt):
        return text
    written = [{"role": message.role, "content": with_calls(message)} for message in chat]
    return _complete(tokenizer, chat, written, add_generation_prompt)


def _complete(tokenizer: Any, chat: Chat, messages: list[dict[str, Any]], add_generation_prompt: bool) -> str:
    """Render, with contents as texts or else as parts, so that everything that is said in it is there."""
    failure: DataRejectedError | None = None
    for form in (messages, [{**each, "content": _parts(each["content"])} for each in messages]):
        try:
            text = apply_template(tokenizer, chat, form, add_generation_prompt=add_generation_prompt)
        except DataRejectedError as error:
            failure = failure or error
            continue
        missing = next((message for message in chat if not _is_in(message, text)), None)
        if missing is None:
            return text
        failure = failure or DataRejectedError(f"the chat template leaves out what the {missing.role} says")
    assert failure is not None
    raise failure


def _parts(content: str) -> list[dict[str, str]]:
    return [{"type": "text", "text": content}]


def _is_in(message: Message, text: str) -> bool:
    """Whether what is said is in the rendered text; templates may shorten old answers and rewrite tools' results."""
    return message.role not in ("system", "user") or message.content.strip() in text


def _as_dict(message: Message) -> dict[str, Any]:
    calls = [
        {
            "id": call.id,
            "type": "function",
            "function": {"name": call.name, "arguments": parsed_arguments(call.arguments)},
        }
        for call in message.tool_calls
    ]
    optional = {"tool_calls": calls, "tool_call_id": message.tool_call_id, "name": message.name}
    present = {key: value for key, value in optional.items() if value}
    return {"role": message.role, "content": message.content, **present}


def apply_template(
    tokenizer: Any, chat: Chat, messages: list[dict[str, Any]], *, add_generation_prompt: bool = True
) -> str:
    """Return what the chat template makes of messages; raises DataRejectedError when it refuses them."""
    try:
        text: str = tokenizer.apply_chat_template(
            messages, tokenize=False, add_generation_prompt=add_generation_prompt
        )
    except (jinja2.TemplateError, ValueError, TypeError, RecursionError) as error:
        roles = ", ".join(message.role for message in chat)
        raise DataRejectedError(f"the chat template refuses the turns {roles}: {error}") from error
    return text
