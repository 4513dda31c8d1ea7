"""How each answerer is spoken to: its tokenizer, its chat template, its system turn, and the tokens that end it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from attrs import evolve, frozen

from adapters.base_model.transformers_base import LoadedBase
from adapters.lora.chat_format import read_prompt
from adapters.lora.growing_answer import GrowingAnswer
from adapters.lora.lora_folder import SYSTEM_FILE
from domain.answers import GenerationOptions
from domain.chats import Chat, with_system


@frozen(eq=False)
class Voice:
    """The base model's way of speaking, or a LoRA adapter's.

    Attributes:
        tokenizer: with the chat template.
        system: the system turn that leads chats which bring none.
        ends: tokens that end an answer.
        silent: tokens that are no part of an answer's text: `ends`, and those that begin or pad a text.
        pad: a token that the model knows, for padding.
        mixes: whether its rows can share a batch with others'; else they run in batches of their own.
    """

    tokenizer: Any
    system: str | None
    ends: frozenset[int]
    silent: frozenset[int]
    pad: int
    mixes: bool = True

    def chat(self, chat: Chat) -> Chat:
        """Return the chat that is really asked."""
        return with_system(chat, self.system)

    def prompt(self, chat: Chat) -> tuple[str, list[int]]:
        """Return a conversation as the model reads it, as text and as token ids.

        Raises DataRejectedError where the chat template does not take it.
        """
        return read_prompt(self.tokenizer, self.chat(chat))

    def answer(self, options: GenerationOptions) -> GrowingAnswer:
        """Return an answer that is still empty."""
        return GrowingAnswer(self.tokenizer, options, self.ends, self.silent)


def base_voice(base: LoadedBase) -> Voice:
    """Return the bare base model's."""
    configured = base.model.generation_config.eos_token_id
    ends = frozenset(configured if isinstance(configured, list) else [configured]) - {None}
    return _voice(base.tokenizer, None, ends, _known_tokens(base))


def read_voice(bare: Voice, folder: Path) -> Voice:
    """Return a LoRA adapter's, as its folder says."""
    system = (folder / SYSTEM_FILE).read_text("utf-8") if (folder / SYSTEM_FILE).is_file() else None
    return evolve(bare, system=system)


def _voice(tokenizer: Any, system: str | None, configured: frozenset[int], known: int) -> Voice:
    def named(*roles: str) -> frozenset[int]:
        ids = (getattr(tokenizer, f"{role}_token_id", None) for role in roles)
        return frozenset(each for each in ids if each is not None)

    ends = frozenset(configured) | named("eos")
    silent = ends | named("pad", "bos", "cls", "sep")
    pad = next((each for each in (*named("pad"), *sorted(ends)) if each < known), 0)
    return Voice(tokenizer, system, ends, silent, pad)


def _known_tokens(base: LoadedBase) -> int:
    return int(base.model.get_input_embeddings().weight.shape[0])
