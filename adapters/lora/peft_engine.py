"""Answering with peft: one base model, many LoRA adapters, mixed in one batch."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from textwrap import shorten
from typing import Any

import torch
from attrs import define, evolve, field
from transformers import GenerationConfig, LogitsProcessorList, StoppingCriteriaList

from adapters.base_model.halving import run_in_halves
from adapters.base_model.length_batches import length_sorted_batches
from adapters.base_model.peft_bypass import bare_base
from adapters.base_model.transformers_base import LoadedBase
from adapters.base_model.transformers_quiet import quiet_transformers
from adapters.lora.generation_control import AnswerRow, EndOfRow, RowDraws, row_seed
from adapters.lora.lora_files import newest_checkpoint
from adapters.lora.memory_budget import token_budget
from adapters.lora.mixed_batch import mixed_batch
from adapters.lora.peft_loading import BaseWatch, inject, inner_name, remove, runs_alone
from adapters.lora.vision_inputs import vision_inputs, without_places
from adapters.lora.voices import Voice, base_voice, read_voice
from application.ports.answering import Generation, GenerationRequest, LoraDistances
from domain.answers import GenerationOptions
from domain.chats import Chat, Message, as_chat, routing_text
from domain.errors import DataRejectedError, LoraAdapterError, MoeRouterError, TooLongError, UsageError

PROBE_PROMPT = "Answer the request in one line."

Stopped = Callable[[Sequence[AnswerRow]], Sequence[bool]]
"""Called with every token of a batch; says which rows nobody waits for any more."""


@define(eq=False)
class PeftEngine:
    """An :class:`application.ports.answering.AnswerEngine` and :class:`application.ports.answering.LoraHost`.

    The LoRA layers are put into the base model that was given, so that one copy serves routing (which bypasses
    them, see :mod:`adapters.base_model.peft_bypass`) and generation. Rows of a batch are padded on the left. Holds
    ``base.lock`` while the model runs; use
    :class:`application.answering.answer_queue.AsyncAnswerEngine` with many callers.

    Attributes:
        base: the base model; carries the LoRA layers from here on. Of its own settings for generation only the end
            marks are used: greedy means the most likely token.
        folders: LoRA adapters to begin with, by name; ``CheckLoraAdapters`` loads what is sound.
        token_budget: most tokens of one batch, padding and the tokens to be generated included; None takes 4,096 on
            a CPU and as many as fit into the free memory on a GPU, 65,536 at most. Where memory runs out all the
            same, a batch is halved.
        max_batch: most prompts of one batch; None for no such limit.
    """

    base: LoadedBase
    folders: Mapping[str, Path] = field(factory=dict)
    token_budget: int | None = None
    max_batch: int | None = None
    _model: Any = field(init=False, repr=False)
    _bare: Voice = field(init=False, repr=False)
    _watch: BaseWatch = field(init=False, repr=False)
    _spoilt: str | None = field(default=None, init=False, repr=False)
    _voices: dict[str, Voice] = field(factory=dict, init=False, repr=False)

    def __attrs_post_init__(self) -> None:
        """Load the LoRA adapters.

        Raises:
            DataRejectedError: the base model cannot generate.
            LoraAdapterError: the weights of a LoRA adapter do not go where its configuration says.
        """
        if self.base.kind == "encoder" or not self.base.is_whole:
            raise DataRejectedError(
                "this base model cannot generate answers",
                where=self.base.info.name,
                hint="train a router on the LoRA adapters' base model, or let a server that holds them answer",
            )
        self._model = self.base.model
        self._bare = base_voice(self.base)
        self._watch = BaseWatch.of(self.base.model)
        self.base.model.generation_config = GenerationConfig()
        for name, folder in self.folders.items():
            self.load(name, folder)

    @property
    def adapters(self) -> tuple[str, ...]:
        """The LoRA adapters that can answer."""
        return tuple(self._voices)

    @property
    def is_usable(self) -> bool:
        """Whether no LoRA adapter has changed the base model itself."""
        return self._spoilt is None

    @property
    def batch_tokens(self) -> int:
        """Most tokens of one batch."""
        return self.token_budget or token_budget(self.base.model, self.base.device)

    @property
    def pad_id(self) -> int:
        """The token that fills short rows; it is masked, so that any will do that the model knows."""
        return self._bare.pad

    def load(self, name: str, folder: Path) -> tuple[str, ...]:
        """Put one LoRA adapter into the base model; see the port for the contract."""
        place = newest_checkpoint(folder)
        voice = read_voice(self._bare, place)
        voice.prompt(as_chat(PROBE_PROMPT))
        with self.base.lock:
            self._model = inject(self._model, name, place)
            changed = self._watch.changed(self.base.model)
            alone = runs_alone(self._model, name)
        if changed:
            self._spoilt = f"LoRA adapter {name} has changed the base model's {changed}: it cannot be used any more"
            raise LoraAdapterError(self._spoilt, where=folder)
        self._voices[name] = evolve(voice, mixes=alone is None)
        return (*voice.notes, *((f"{alone}: it answers in batches of its own, more slowly",) if alone else ()))

    def unload(self, name: str) -> None:
        """Take one LoRA adapter out again; see the port for the contract."""
        with self.base.lock:
            remove(self._model, name)
        del self._voices[name]

    def prepare(self, request: GenerationRequest, options: GenerationOptions) -> AnswerRow:
        """Return a request as a row that can run, with an answer that is still empty.

        Raises:
            UsageError: a LoRA adapter that is not held, or images for a base model that sees none.
            DataRejectedError: the base model cannot take it.
            MissingFileError: an image that is not there.
        """
        if self._spoilt:
            raise DataRejectedError(self._spoilt)
        voice = self._voice(request.adapter)
        beside: dict[str, torch.Tensor] = {}
        if request.images:
            beside = vision_inputs(self.base, voice.chat(request.chat), request.images)
            ids = beside.pop("input_ids")[0].tolist()
            text = str(ids)
        else:
            text, ids = voice.prompt(without_places(self.base, request.chat))
        self._check_length(len(ids), options.max_new_tokens, request.chat)
        return AnswerRow(
            request.adapter, ids, options, voice.answer(options), row_seed(options.seed, text), voice.mixes, beside
        )

    def exchange(self, chat: Chat, answer: Message, name: str | None) -> tuple[list[int], list[int], bool]:
        """Return token ids of a conversation and of a given answer as LoRA adapter `name` (or the base) reads them.

        Returns:
            Both, and whether its rows can share a batch with others'.

        Raises:
            UsageError: a LoRA adapter that is not held.
            DataRejectedError: the base model cannot take it.
        """
        if self._spoilt:
            raise DataRejectedError(self._spoilt)
        voice = self._voice(name)
        before, after = voice.exchange(without_places(self.base, chat), answer)
        self._check_length(len(before), len(after), chat)
        return before, after, voice.mixes

    def generate(
        self, requests: Sequence[GenerationRequest], options: GenerationOptions
    ) -> Iterator[tuple[int, Generation | MoeRouterError]]:
        """Yield answers as batches finish, longest prompts first; see the port for the contract."""
        rows: dict[int, AnswerRow] = {}
        for index, request in enumerate(requests):
            try:
                rows[index] = self.prepare(request, options)
            except MoeRouterError as error:
                yield index, error

        def answered(batch: Sequence[int]) -> Sequence[Generation | MoeRouterError]:
            # Fresh answers each time: where memory ran out, some had begun.
            fresh = [evolve(rows[index], answer=self._voice(rows[index].adapter).answer(options)) for index in batch]
            self.run(fresh)
            return [row.answer.generation for row in fresh]

        for batch in self._batches(rows):
            for part, generations in run_in_halves(batch, answered, lambda error: [error]):
                yield from zip(part, generations, strict=True)

    def run(self, rows: Sequence[AnswerRow], stopped: Stopped | None = None) -> None:
        """Run rows that can share a batch (neighbours have the same adapter) until all their answers have ended.

        Each row's answer knows its own end, so that the model is given no end mark.

        Args:
            rows: the rows; one with images, or of a LoRA adapter that does not mix, only with its like.
            stopped: called with every token.
        """
        inputs = {**self._padded([row.ids for row in rows]), **(rows[0].beside if len(rows) == 1 else {})}
        settings = {
            "generation_config": GenerationConfig(
                max_new_tokens=max(row.options.max_new_tokens for row in rows),
                do_sample=False,  # draws are made by RowDraws, row by row
                pad_token_id=self.pad_id,
            ),
            "logits_processor": LogitsProcessorList([RowDraws(rows)]),
            "stopping_criteria": StoppingCriteriaList([EndOfRow(rows, stopped)]),
        }
        names = [row.adapter for row in rows]
        with torch.inference_mode(), quiet_transformers(), self.speaking(names) as model:
            model.generate(**inputs, **settings)

    @contextmanager
    def speaking(self, names: Sequence[str | None]) -> Iterator[Any]:
        """Within the context, the model that is given runs row i of a batch through LoRA adapter ``names[i]``.

        Holds the base model's lock. Equal names must be neighbours; None is the bare base model.
        """
        with self.base.lock:
            if not any(names):
                with bare_base(self.base.model):
                    yield self.base.model
            elif len(set(names)) == 1:  # as fast as it gets; and all that peft can do with one LoRA adapter
                self._model.set_adapter(inner_name(names[0]))
                yield self._model
            else:
                with mixed_batch(self.base.model, [inner_name(name) for name in names]):
                    yield self.base.model

    def distances(self) -> LoraDistances:
        """Return how far the LoRA adapters' logits lie apart on one fixed prompt."""
        chat = as_chat(PROBE_PROMPT)
        prompts = {name: self._voice(name).prompt(chat)[1] for name in self.adapters}
        states = {name: self._last_logits(name, ids) for name, ids in prompts.items()}  # (vocabulary,) each
        bases = {tuple(ids): self._last_logits(None, ids) for ids in prompts.values()}
        scale = max((float(state.std()) for state in bases.values()), default=1.0) or 1.0

        def apart(one: torch.Tensor, other: torch.Tensor) -> float:
            return float((one - other).abs().amax()) / scale

        return LoraDistances(
            self.adapters,
            tuple(apart(states[name], bases[tuple(ids)]) for name, ids in prompts.items()),
            tuple(tuple(apart(one, other) for other in states.values()) for one in states.values()),
        )

    def _last_logits(self, name: str | None, ids: list[int]) -> torch.Tensor:
        inputs = self._padded([ids])
        with torch.inference_mode(), self.speaking([name]) as model:
            logits: torch.Tensor = model(**inputs, use_cache=False, logits_to_keep=1).logits[0, -1]
        return logits.float().cpu().clone()  # not a view that keeps all positions' logits

    def _voice(self, name: str | None) -> Voice:
        if name is None:
            return self._bare
        if name not in self._voices:
            raise UsageError(f"LoRA adapter {name!r} is not loaded")
        return self._voices[name]

    def _batches(self, rows: Mapping[int, AnswerRow]) -> Iterator[list[int]]:
        """Yield the rows of each batch: of similar length, those of one adapter neighbours."""
        alone = [index for index, row in rows.items() if row.beside]
        kinds: dict[str | None, list[int]] = {}
        for index, row in rows.items():
            if not row.beside:
                kinds.setdefault(None if row.mixes else row.adapter, []).append(index)
        for indices in kinds.values():
            lengths = [len(rows[index].ids) + rows[index].options.max_new_tokens for index in indices]
            for batch in length_sorted_batches(lengths, self.batch_tokens, self.max_batch):
                yield sorted((indices[position] for position in batch), key=lambda index: rows[index].adapter or "")
        yield from ([index] for index in alone)

    def _check_length(self, tokens: int, new: int, chat: Chat) -> None:
        limit = getattr(self.base.model.config.get_text_config(), "max_position_embeddings", None)
        if isinstance(limit, int) and 0 < limit < tokens + new:
            raise TooLongError(
                f"a prompt of {tokens} tokens and {new} new ones are more than the base model's {limit}",
                where=f"prompt {shorten(routing_text(chat), 60, placeholder='…')!r}",
                hint="shorten the prompt, or ask for fewer new tokens",
            )

    def _padded(self, rows: Sequence[list[int]]) -> dict[str, torch.Tensor]:
        """Pad on the left, so that the next token follows the prompt in every row: (B, T)."""
        width, pad = max(1, *map(len, rows)), self.pad_id
        ids = torch.tensor([[pad] * (width - len(row)) + row for row in rows])
        mask = torch.tensor([[0] * (width - len(row)) + [1] * len(row) for row in rows])
        return {"input_ids": ids.to(self.base.device), "attention_mask": mask.to(self.base.device)}
