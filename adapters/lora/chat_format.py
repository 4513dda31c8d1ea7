"""From a conversation to the text that a base model was trained to continue: its own chat template."""

from __future__ import annotations

from typing import Any

import jinja2

from domain.chats import Chat
from domain.errors import DataRejectedError

_END_OF_LINE = "\n"


def render_prompt(tokenizer: Any, chat: Chat) -> str:
    """Return the conversation as text, up to where the assistant is to speak.

    A base model without a chat template gets the turns' contents, one below the other.

    Raises:
        DataRejectedError: the template does not take this conversation (some know no system turn).
    """
    if not tokenizer.chat_template:
        return "".join(message.content + _END_OF_LINE for message in chat)
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
    return chat[-1].content + (tokenizer.eos_token or _END_OF_LINE)


def prompt_tokens(tokenizer: Any, text: str) -> list[int]:
    """Return the token ids of a rendered prompt; a chat template brings its special tokens along."""
    ids: list[int] = tokenizer(text, add_special_tokens=not tokenizer.chat_template).input_ids
    return ids


def _apply(tokenizer: Any, chat: Chat, *, add_generation_prompt: bool) -> str:
    messages = [{"role": message.role, "content": message.content} for message in chat]
    try:
        text: str = tokenizer.apply_chat_template(
            messages, tokenize=False, add_generation_prompt=add_generation_prompt
        )
    except (jinja2.TemplateError, ValueError, TypeError) as error:
        roles = ", ".join(message.role for message in chat)
        raise DataRejectedError(f"the base model's chat template refuses the turns {roles}: {error}") from error
    return text
