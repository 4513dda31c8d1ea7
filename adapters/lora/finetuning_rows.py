"""The rows of fine-tuning: conversations drawn from an adapter's own data, as token ids."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

import torch
from attrs import frozen

from adapters.lora.chat_format import read_prompt, render_answer
from adapters.lora.source_chats import read_chats
from application.ports.datasets import Source
from domain.chats import Chat
from domain.errors import DataRejectedError

_Row = TypeVar("_Row")


@frozen(eq=False)
class Example:
    """One answer to learn.

    Attributes:
        prompt: token ids of what comes before the answer, as the model will see it when it answers.
        answer: the answer's own, with the mark that ends the assistant's turn.
        states: what the frozen blocks make of both, shape (tokens, hidden); None when no block is frozen.
    """

    prompt: list[int]
    answer: list[int]
    states: torch.Tensor | None = None

    @property
    def ids(self) -> list[int]:
        """Token ids of prompt and answer."""
        return self.prompt + self.answer


@frozen(eq=False)
class ExampleSet:
    """What one LoRA adapter learns from.

    Attributes:
        rows: the examples, shortest first.
        system_prompt: the system turn that all of them start with, or None.
    """

    rows: list[Example]
    system_prompt: str | None


def draw_examples(
    tokenizer: Any, source: Path | Source, *, rows: int, max_tokens: int, with_system: bool, seed: int
) -> ExampleSet:
    """Draw examples from a source data set: one for each answer in the drawn conversations.

    Args:
        tokenizer: the base model's tokenizer.
        source: conversations, of any kind and shape that `generate` reads.
        rows: most examples.
        max_tokens: longer examples are not used.
        with_system: keep the system turn; all rows must have the same one.
        seed: decides which conversations are drawn.

    Raises:
        MissingFileError, DataRejectedError: the file cannot be used; see `read_chats`.
    """
    chats = read_chats(source)
    path = source.path if isinstance(source, Source) else source
    system = _only_system(chats, path) if with_system else None
    if not with_system:
        chats = [tuple(message for message in chat if message.role != "system") for chat in chats]
    drawn: list[Example] = []
    for index in torch.randperm(len(chats), generator=torch.Generator().manual_seed(seed)).tolist():
        drawn += [row for row in _examples(tokenizer, chats[index]) if len(row.ids) <= max_tokens]
        if len(drawn) >= rows:
            break
    if not drawn:
        raise DataRejectedError(f"no conversation is as short as {max_tokens} tokens", where=path)
    return ExampleSet(sorted(drawn[:rows], key=lambda row: len(row.ids)), system)


def endless_batches(rows: Sequence[_Row], size: int, seed: int) -> Iterator[Sequence[_Row]]:
    """Yield batches of neighbours, in a new random order each time that all have been given."""
    generator = torch.Generator().manual_seed(seed)
    batches = list(slices(rows, size))
    while True:
        for index in torch.randperm(len(batches), generator=generator).tolist():
            yield batches[index]


def slices(rows: Sequence[_Row], size: int) -> Iterator[Sequence[_Row]]:
    """Yield consecutive pieces of at most `size` rows."""
    return (rows[start : start + size] for start in range(0, len(rows), size))


def _examples(tokenizer: Any, chat: Chat) -> Iterator[Example]:
    for end, message in enumerate(chat):
        if message.role == "assistant" and end:
            prompt, prompt_ids = read_prompt(tokenizer, chat[:end])
            answer = render_answer(tokenizer, chat[: end + 1], prompt)
            ids = tokenizer(answer, add_special_tokens=False).input_ids
            yield Example(prompt_ids, ids)


def _only_system(chats: list[Chat], path: Path) -> str | None:
    found = {next((message.content for message in chat if message.role == "system"), None) for chat in chats}
    if len(found) > 1:
        raise DataRejectedError(
            f"{len(found)} different system turns", where=path, hint="train without them, or make them one"
        )
    return found.pop()
