"""How the base model and each LoRA adapter are addressed: tokenizer, chat template, system turn, final tokens."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import orjson
from attrs import evolve, frozen
from transformers import AutoTokenizer

from adapters.base_model.transformers_base import LoadedBase
from adapters.base_model.transformers_quiet import quiet_transformers
from adapters.lora.chat_format import read_answer, read_prompt
from adapters.lora.growing_answer import GrowingAnswer
from adapters.lora.lora_files import SYSTEM_FILE
from adapters.lora.safe_files import TOKENIZER_LIMIT, checked_file, read_file, read_text
from domain.answers import GenerationOptions
from domain.chats import Chat, Message, with_system
from domain.errors import LoraAdapterError

_TEMPLATE, _SETTINGS, _WORDS = "chat_template.jinja", "tokenizer_config.json", "tokenizer.json"
_TOKENIZER_FILES = (
    *(_TEMPLATE, _SETTINGS, _WORDS, "tokenizer.model", "special_tokens_map.json", "added_tokens.json"),
    *("vocab.json", "merges.txt", "config.json", "chat_template.json"),
)


@frozen(eq=False)
class Voice:
    """The base model's way of speaking, or a LoRA adapter's.

    Attributes:
        tokenizer: with the chat template.
        system: the system turn that leads chats which bring none.
        ends: tokens that end an answer.
        silent: tokens that are not part of an answer's text: `ends`, and those that begin or pad a text.
        pad: a token that the model knows, for padding.
        known: how many tokens the model knows.
        mixes: whether its rows can share a batch with others'; else they run in batches of their own.
        notes: what a person should know of it.
    """

    tokenizer: Any
    system: str | None
    ends: frozenset[int]
    silent: frozenset[int]
    pad: int
    known: int
    mixes: bool = True
    notes: tuple[str, ...] = ()

    def chat(self, chat: Chat) -> Chat:
        """Return a chat led by the system turn, unless it brings its own."""
        return with_system(chat, self.system)

    def prompt(self, chat: Chat) -> tuple[str, list[int]]:
        """Return a conversation as the model reads it, as text and as token ids.

        Raises DataRejectedError where the chat template does not take it.
        """
        return read_prompt(self.tokenizer, self.chat(chat))

    def exchange(self, chat: Chat, answer: Message) -> tuple[list[int], list[int]]:
        """Return the token ids of a conversation up to an answer, and of that answer; raises as `prompt` does."""
        asked = self.chat(chat)
        return read_prompt(self.tokenizer, asked)[1], read_answer(self.tokenizer, (*asked, answer))

    def answer(self, options: GenerationOptions) -> GrowingAnswer:
        """Return an answer that is still empty."""
        return GrowingAnswer(self.tokenizer, options, self.ends, self.silent)


def base_voice(base: LoadedBase) -> Voice:
    """Return the bare base model's voice."""
    configured = base.model.generation_config.eos_token_id
    ends = frozenset(configured if isinstance(configured, list) else [configured]) - {None}
    known = int(base.model.get_input_embeddings().weight.shape[0])
    return _voice(base.tokenizer, ends, known)


def read_voice(bare: Voice, folder: Path) -> Voice:
    """Return a LoRA adapter's voice as its folder describes it, with its own tokenizer and template if they differ.

    Raises:
        LoraAdapterError: its tokenizer cannot be loaded, or has tokens that the base model does not know.
    """
    system = read_text(folder, SYSTEM_FILE)
    tokenizer, notes = _own_tokenizer(bare, folder)
    if tokenizer is None:
        return evolve(bare, system=system)
    return evolve(_voice(tokenizer, bare.ends, bare.known), system=system, notes=notes)


def _voice(tokenizer: Any, ends: frozenset[int], known: int) -> Voice:
    def named(*roles: str) -> frozenset[int]:
        ids = (getattr(tokenizer, f"{role}_token_id", None) for role in roles)
        return frozenset(each for each in ids if each is not None)

    ends = ends | named("eos")
    silent = ends | named("pad", "bos", "cls", "sep")
    pad = next((each for each in (*named("pad"), *sorted(ends)) if each < known), 0)
    return Voice(tokenizer, None, ends, silent, pad, known)


def _own_tokenizer(bare: Voice, folder: Path) -> tuple[Any, tuple[str, ...]]:
    present = {name for name in _TOKENIZER_FILES if checked_file(folder, name, TOKENIZER_LIMIT)}
    if _WORDS not in present:
        template = _template_alone(folder)
        if template is None or template == bare.tokenizer.chat_template:
            return None, ()
        tokenizer = copy.deepcopy(bare.tokenizer)
        tokenizer.chat_template = template
        return tokenizer, ("it answers with its own chat template",)
    tokenizer = _loaded(folder)
    notes = []
    if tokenizer.get_vocab() != bare.tokenizer.get_vocab():
        unknown = sorted((index, word) for word, index in tokenizer.get_vocab().items() if index >= bare.known)
        if unknown:
            what = f"{len(unknown)} tokens that the base model does not know, such as {unknown[0][1]!r}"
            raise LoraAdapterError(f"its tokenizer has {what}", where=folder)
        notes.append("it answers with its own tokenizer")
    if tokenizer.chat_template and tokenizer.chat_template != bare.tokenizer.chat_template:
        notes.append("it answers with its own chat template")
    elif not tokenizer.chat_template:
        tokenizer.chat_template = bare.tokenizer.chat_template
    if not notes and tokenizer.eos_token_id != bare.tokenizer.eos_token_id:
        notes.append("it ends answers with a token of its own")
    return (tokenizer, tuple(notes)) if notes else (None, ())


def _template_alone(folder: Path) -> str | None:
    """Return the chat template of a folder without a vocabulary."""
    template = read_text(folder, _TEMPLATE)
    if template is None and checked_file(folder, _SETTINGS, TOKENIZER_LIMIT):
        try:
            settings = orjson.loads(read_file(folder, _SETTINGS, TOKENIZER_LIMIT))
        except orjson.JSONDecodeError as error:
            raise LoraAdapterError(f"{_SETTINGS} is damaged: {error}", where=folder) from error
        found = settings.get("chat_template") if isinstance(settings, dict) else None
        template = found if isinstance(found, str) else None
    return template


def _loaded(folder: Path) -> Any:
    try:
        with quiet_transformers():
            return AutoTokenizer.from_pretrained(folder, trust_remote_code=False, local_files_only=True)
    except Exception as error:  # tokenizers raises plain Exception for a file that it cannot read
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise LoraAdapterError(f"its tokenizer cannot be loaded: {reason[:200]}", where=folder) from error
