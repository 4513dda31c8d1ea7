"""Answering with peft: one base model, many LoRA adapters, mixed in one batch."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from textwrap import shorten
from typing import Any

import torch
from attrs import define, field
from transformers import GenerationConfig, LogitsProcessorList, StoppingCriteriaList

from adapters.base_model.length_batches import length_sorted_batches
from adapters.base_model.peft_bypass import bare_base
from adapters.base_model.transformers_base import LoadedBase
from adapters.base_model.transformers_quiet import quiet_transformers
from adapters.lora.chat_format import prompt_tokens, render_prompt
from adapters.lora.generation_control import EndOfRow, RowDraws, cut_at, row_seed
from adapters.lora.lora_folder import SYSTEM_FILE
from adapters.lora.mixed_batch import mixed_batch
from adapters.lora.peft_loading import inject, inner_name, remove
from adapters.lora.vision_inputs import vision_inputs
from application.ports.answering import Generation, GenerationRequest, LoraDistances
from domain.answers import Finish, GenerationOptions
from domain.chats import Chat, as_chat, routing_text, with_system
from domain.errors import DataRejectedError, MoeRouterError, UsageError

CPU_TOKEN_BUDGET = 4096
GPU_TOKEN_BUDGET = 65536
PROBE_PROMPT = "Answer the request in one line."


@define(eq=False)
class PeftEngine:
    """An :class:`application.ports.answering.AnswerEngine` and :class:`application.ports.answering.LoraHost`.

    The LoRA layers are put into the base model that was given, so that one copy serves routing (which bypasses
    them, see :mod:`adapters.base_model.peft_bypass`) and generation. Rows of a batch are padded on the left. Holds
    ``base.lock`` while the model runs; use :class:`adapters.lora.async_engine.AsyncAnswerEngine` with many callers.

    Attributes:
        base: the base model; carries the LoRA layers from here on.
        folders: LoRA adapters to begin with, by name; ``CheckLoraAdapters`` loads what is sound.
        token_budget: most tokens of one batch, padding and the tokens to be generated included; None takes
            4,096 on a CPU and 65,536 on a GPU.
    """

    base: LoadedBase
    folders: Mapping[str, Path] = field(factory=dict)
    token_budget: int | None = None
    _model: Any = field(init=False, repr=False)
    _systems: dict[str, str | None] = field(factory=dict, init=False, repr=False)

    def __attrs_post_init__(self) -> None:
        """Load the LoRA adapters.

        Raises:
            DataRejectedError: the base model cannot generate.
            LoraAdapterError: the weights of a LoRA adapter do not go where its configuration says.
        """
        if self.base.kind == "encoder" or not self.base.is_whole:
            raise DataRejectedError("this base model cannot generate answers", where=self.base.info.name)
        self._model = self.base.model
        for name, folder in self.folders.items():
            self.load(name, folder)

    @property
    def adapters(self) -> tuple[str, ...]:
        """The LoRA adapters that can answer."""
        return tuple(self._systems)

    def load(self, name: str, folder: Path) -> None:
        """Put one LoRA adapter into the base model; see the port for the contract."""
        system = (folder / SYSTEM_FILE).read_text("utf-8") if (folder / SYSTEM_FILE).is_file() else None
        render_prompt(self.base.tokenizer, with_system(as_chat(PROBE_PROMPT), system))
        with self.base.lock:
            self._model = inject(self._model, name, folder)
        self._systems[name] = system

    def unload(self, name: str) -> None:
        """Take one LoRA adapter out again; see the port for the contract."""
        with self.base.lock:
            remove(self._model, name)
        del self._systems[name]

    def generate(
        self, requests: Sequence[GenerationRequest], options: GenerationOptions
    ) -> Iterator[tuple[int, Generation | MoeRouterError]]:
        """Yield answers as batches finish, longest prompts first; see the port for the contract."""
        rendered: dict[int, str] = {}
        rows: dict[int, list[int]] = {}
        for index, request in enumerate(requests):
            try:
                rendered[index] = self._render(request)
                if not request.images:
                    rows[index] = prompt_tokens(self.base.tokenizer, rendered[index])
                    self._check_length(len(rows[index]), request, options)
            except MoeRouterError as error:
                rendered.pop(index, None)
                rows.pop(index, None)
                yield index, error
        texts, ids = list(rows), list(rows.values())
        budget = self.token_budget or (CPU_TOKEN_BUDGET if self.base.device.type == "cpu" else GPU_TOKEN_BUDGET)
        for batch in length_sorted_batches([len(row) + options.max_new_tokens for row in ids], budget):
            batch.sort(key=lambda position: requests[texts[position]].adapter or "")  # neighbours, see mixed_batch
            chosen = [texts[position] for position in batch]
            inputs = self._padded([ids[position] for position in batch])
            names = [requests[index].adapter for index in chosen]
            seeds = [row_seed(options.seed, rendered[index]) for index in chosen]
            yield from zip(chosen, self._run(inputs, names, seeds, options), strict=True)
        for index in rendered.keys() - rows.keys():
            try:
                yield index, self._with_images(requests[index], rendered[index], options)
            except MoeRouterError as error:
                yield index, error

    def _with_images(self, request: GenerationRequest, rendered: str, options: GenerationOptions) -> Generation:
        inputs = vision_inputs(self.base, self._chat(request), request.images)
        self._check_length(inputs["input_ids"].shape[1], request, options)
        return self._run(inputs, [request.adapter], [row_seed(options.seed, rendered)], options)[0]

    def distances(self) -> LoraDistances:
        """Return how far the LoRA adapters' logits lie apart on one fixed prompt, all in one batch."""
        text = render_prompt(self.base.tokenizer, as_chat(PROBE_PROMPT))
        ids = prompt_tokens(self.base.tokenizer, text)
        names: list[str | None] = [None, *self.adapters]
        inputs = self._padded([ids] * len(names))
        with self.base.lock, torch.inference_mode():
            adapter_names = {"adapter_names": [inner_name(name) for name in names]} if self.adapters else {}
            logits = self._model(**inputs, **adapter_names, use_cache=False, logits_to_keep=1).logits
        states = logits[:, -1].float()  # (1 + adapters, vocabulary)
        apart = (states[:, None] - states[None]).abs().amax(dim=2) / states[0].std().clamp(min=1e-12)
        rows = apart.tolist()
        return LoraDistances(self.adapters, tuple(rows[0][1:]), tuple(tuple(row[1:]) for row in rows[1:]))

    def _chat(self, request: GenerationRequest) -> Chat:
        if request.adapter is not None and request.adapter not in self._systems:
            raise UsageError(f"LoRA adapter {request.adapter!r} is not loaded")
        return with_system(request.chat, self._systems.get(request.adapter or ""))

    def _render(self, request: GenerationRequest) -> str:
        return render_prompt(self.base.tokenizer, self._chat(request))

    def _check_length(self, tokens: int, request: GenerationRequest, options: GenerationOptions) -> None:
        limit = getattr(self.base.model.config.get_text_config(), "max_position_embeddings", None)
        if limit is not None and tokens + options.max_new_tokens > limit:
            raise DataRejectedError(
                f"a prompt of {tokens} tokens and {options.max_new_tokens} new ones are more than the base model's "
                f"{limit}",
                where=f"prompt {shorten(routing_text(request.chat), 60, placeholder='…')!r}",
                hint="shorten the prompt, or ask for fewer new tokens",
            )

    def _padded(self, rows: Sequence[list[int]]) -> dict[str, torch.Tensor]:
        """Pad on the left, so that the next token follows the prompt in every row: (B, T)."""
        width, pad = max(1, *map(len, rows)), self._pad
        ids = torch.tensor([[pad] * (width - len(row)) + row for row in rows])
        mask = torch.tensor([[0] * (width - len(row)) + [1] * len(row) for row in rows])
        return {"input_ids": ids.to(self.base.device), "attention_mask": mask.to(self.base.device)}

    def _run(
        self,
        inputs: Mapping[str, torch.Tensor],
        names: Sequence[str | None],
        seeds: Sequence[int],
        options: GenerationOptions,
    ) -> list[Generation]:
        prompt_width = inputs["input_ids"].shape[1]
        end = EndOfRow(self.base.tokenizer, prompt_width, options.stop)
        draws = [RowDraws(seeds, options.temperature)] if options.temperature > 0 else []
        settings = {
            "generation_config": GenerationConfig(  # type: ignore[no-untyped-call]
                max_new_tokens=options.max_new_tokens,
                do_sample=False,  # draws are made by RowDraws, row by row
                eos_token_id=sorted(self._ends) or None,
                pad_token_id=self._pad,
            ),
            "logits_processor": LogitsProcessorList(draws),
            "stopping_criteria": StoppingCriteriaList([end] if options.stop else []),
        }
        with self.base.lock, torch.inference_mode(), quiet_transformers():
            output = self._generate(inputs, names, settings)
        return [self._finished(row, options) for row in output[:, prompt_width:].tolist()]

    def _generate(self, inputs: Mapping[str, torch.Tensor], names: Sequence[str | None], settings: Any) -> Any:
        if not any(names):
            with bare_base(self.base.model):
                return self.base.model.generate(**inputs, **settings)
        if len(set(names)) == 1:  # as fast as it gets; and images, whose patches are no rows of the batch
            self._model.set_adapter(inner_name(names[0]))
            return self._model.generate(**inputs, **settings)
        with mixed_batch(self.base.model, [inner_name(name) for name in names]):
            return self.base.model.generate(**inputs, **settings)

    def _finished(self, tokens: list[int], options: GenerationOptions) -> Generation:
        end = next((position for position, token in enumerate(tokens) if token in self._ends), None)
        kept = tokens if end is None else tokens[:end]
        text: str = self.base.tokenizer.decode(kept, skip_special_tokens=True)
        text, stopped = cut_at(text, options.stop)
        used = len(kept) + (end is not None)
        return Generation(text.strip(), used, Finish.STOP if stopped or end is not None else Finish.LENGTH)

    @property
    def _ends(self) -> set[int]:
        configured = self.base.model.generation_config.eos_token_id
        ends = configured if isinstance(configured, list) else [configured]
        return {int(end) for end in (*ends, self.base.tokenizer.eos_token_id) if end is not None}

    @property
    def _pad(self) -> int:
        pad = self.base.tokenizer.pad_token_id
        return int(pad) if pad is not None else min(self._ends, default=0)
