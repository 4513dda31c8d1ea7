"""Fine-tuning small LoRA adapters with peft on a base model that is already loaded.

Made for a first try on a CPU in about a minute, not for production: one learning-rate schedule, no validation. Only
the upper blocks get LoRA layers, so that backward passes stop half-way and the lower blocks run once per row.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from attrs import evolve, frozen
from peft import LoraConfig, TaskType, get_peft_model, get_peft_model_state_dict

from adapters.base_model.transformers_base import LoadedBase
from adapters.lora.finetuning_rows import Example, ExampleSet, draw_examples, endless_batches
from adapters.lora.frozen_blocks import FrozenBlocks
from adapters.lora.lora_folder import save_lora_folder
from application.ports import ProgressReporter, ProgressTask
from application.ports.datasets import Source
from domain.errors import DataRejectedError, TargetExistsError, UsageError

_IGNORED = -100  # label of tokens without a loss, as torch's cross entropy has it
_MAX_GRADIENT = 1.0
_FROZEN_BATCH = 16  # rows per pass through the frozen blocks


@frozen
class FinetuneOptions:
    """How to fine-tune; the defaults teach SmolLM2-135M the form of short tool calls.

    Attributes:
        steps: optimiser steps per LoRA adapter.
        batch_size: conversations per step.
        rows: conversations used per LoRA adapter, drawn with the seed; each is met several times.
        upper_blocks: how many of the last blocks get LoRA layers.
        rank: rank of every LoRA layer; its alpha is twice that.
        learning_rate: highest learning rate; warms up over a tenth of the steps, then falls linearly to 0.
        max_tokens: conversations with more tokens are not used.
        with_system: train with the rows' system turn, and keep it beside the weights for answering. Off, prompts
            are answered well without it, and each pass is about half as long.
        seed: decides rows, initialisation and order. Same seed, same bytes on one machine's CPU.
    """

    steps: int = 32
    batch_size: int = 4
    rows: int = 64
    upper_blocks: int = 6
    rank: int = 8
    learning_rate: float = 4e-3
    max_tokens: int = 256
    with_system: bool = False
    seed: int = 42

    def __attrs_post_init__(self) -> None:
        """Raise UsageError with the rule and the offending value."""
        for name in ("steps", "batch_size", "rows", "upper_blocks", "rank", "max_tokens"):
            if getattr(self, name) < 1:
                raise UsageError(f"{name.replace('_', '-')} {getattr(self, name)} is below 1")


@frozen
class FinetuneReport:
    """What became of one LoRA adapter.

    Attributes:
        path: its folder.
        rows: conversations that it was trained on.
        first_loss: loss of the first step, nats per token of the assistant.
        last_loss: mean loss of the last tenth of the steps.
    """

    path: Path
    rows: int
    first_loss: float
    last_loss: float


@frozen(eq=False)
class PeftFinetuner:
    """Fine-tunes one LoRA adapter per source data set, all on one loaded base model.

    Attributes:
        base: the base model; unchanged, without LoRA layers, when it is done.
        progress: shows how far it is.
        options: how to train.
    """

    base: LoadedBase
    progress: ProgressReporter
    options: FinetuneOptions = FinetuneOptions()

    def __call__(
        self, sources: Mapping[str, Path | Source], out_dir: Path, *, replace: bool = False
    ) -> dict[str, FinetuneReport]:
        """Train a LoRA adapter per source (by adapter name) into ``out_dir/<name>``; all are read first.

        Raises:
            DataRejectedError: a source cannot be used, or the base model cannot generate.
            TargetExistsError: a folder is already there and `replace` is off.
            StorageError: the file system refused.
        """
        if self.base.kind == "encoder" or not self.base.is_whole:
            raise DataRejectedError("this base model cannot answer prompts", where=self.base.info.name)
        if not replace and (taken := [out_dir / name for name in sources if (out_dir / name).exists()]):
            raise TargetExistsError("already exists", where=taken[0], hint="choose another folder")
        sets = {
            name: self.examples(source if isinstance(source, Source) else Source(name, source))
            for name, source in sources.items()
        }
        with self.base.lock, torch.random.fork_rng():
            blocks = FrozenBlocks(self.base.blocks[: -self.options.upper_blocks])
            with self.progress.track("Reading the source data sets", len(sets)) as task:
                for examples in sets.values():
                    self._run_frozen_blocks(examples, blocks)
                    task.advance()
            with self.progress.track("Fine-tuning", self.options.steps * len(sets)) as task:
                return {
                    name: self._train(name, examples, blocks, out_dir / name, task, replace)
                    for name, examples in sets.items()
                }

    def examples(self, source: Path | Source) -> ExampleSet:
        """Return the examples that a LoRA adapter for this source data set would be trained on."""
        options = self.options
        return draw_examples(
            self.base.tokenizer,
            source,
            rows=options.rows,
            max_tokens=options.max_tokens,
            with_system=options.with_system,
            seed=options.seed,
        )

    def _run_frozen_blocks(self, examples: ExampleSet, blocks: FrozenBlocks) -> None:
        for start in range(0, len(examples.rows), _FROZEN_BATCH):
            batch = examples.rows[start : start + _FROZEN_BATCH]
            states = blocks.states(self.base.model, self._inputs(batch))
            if states is not None:
                examples.rows[start : start + _FROZEN_BATCH] = [
                    evolve(row, states=states[i, : len(row.ids)].clone()) for i, row in enumerate(batch)
                ]

    def _inputs(self, batch: Sequence[Example]) -> dict[str, torch.Tensor]:
        """Padded on the right: in a causal model nothing before the padding sees it."""
        width = max(len(row.ids) for row in batch)
        pad = self.base.tokenizer.pad_token_id or 0
        ids = torch.tensor([row.ids + [pad] * (width - len(row.ids)) for row in batch])
        mask = torch.tensor([[1] * len(row.ids) + [0] * (width - len(row.ids)) for row in batch])
        return {"input_ids": ids.to(self.base.device), "attention_mask": mask.to(self.base.device)}

    def _train(
        self, name: str, examples: ExampleSet, blocks: FrozenBlocks, target: Path, task: ProgressTask, replace: bool
    ) -> FinetuneReport:
        torch.manual_seed(self.options.seed)
        config = self._lora_config()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of transformers, about what peft calls of it
            model = get_peft_model(self.base.model, config, adapter_name=name)
        try:
            losses = self._steps(examples.rows, blocks, task)
            save_lora_folder(
                target,
                config=_plain(config, self.base.info.name),
                tensors=get_peft_model_state_dict(model, adapter_name=name),
                fingerprint=self.base.info.fingerprint,
                system_prompt=examples.system_prompt,
                replace=replace,
            )
        finally:
            model.unload()
            self.base.model.eval().requires_grad_(False)
        tail = losses[-max(1, len(losses) // 10) :]
        return FinetuneReport(target, len(examples.rows), losses[0], sum(tail) / len(tail))

    def _lora_config(self) -> Any:
        """Every linear layer of the upper blocks, named the way that peft stores it in few words."""
        upper = range(len(self.base.blocks))[-self.options.upper_blocks :]
        targets = {
            path.rsplit(".", 1)[-1]
            for path, module in self.base.blocks[-1].named_modules()
            if isinstance(module, torch.nn.Linear)
        }
        path = next(path for path, module in self.base.model.named_modules() if module is self.base.blocks[0])
        return LoraConfig(
            r=self.options.rank,
            lora_alpha=2 * self.options.rank,
            target_modules=sorted(targets),
            layers_to_transform=list(upper),
            layers_pattern=path.split(".")[-2],
            task_type=TaskType.CAUSAL_LM,
        )

    def _steps(self, rows: Sequence[Example], blocks: FrozenBlocks, task: ProgressTask) -> list[float]:
        weights = [weight for weight in self.base.model.parameters() if weight.requires_grad]
        optimiser = torch.optim.AdamW(weights, weight_decay=0.0)
        order = endless_batches(rows, self.options.batch_size, self.options.seed)
        losses = []
        for step in range(self.options.steps):
            optimiser.param_groups[0]["lr"] = self._learning_rate(step)
            loss = self._loss(next(order), blocks)
            optimiser.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            torch.nn.utils.clip_grad_norm_(weights, _MAX_GRADIENT)
            optimiser.step()
            losses.append(loss.item())
            task.advance()
        return losses

    def _learning_rate(self, step: int) -> float:
        warm_up = max(1, self.options.steps // 10)
        return self.options.learning_rate * min((step + 1) / warm_up, 1 - step / self.options.steps)

    def _loss(self, batch: Sequence[Example], blocks: FrozenBlocks) -> torch.Tensor:
        inputs = self._inputs(batch)
        first = min(len(row.prompt) for row in batch) - 1  # its logits are for the earliest answer token
        width = inputs["input_ids"].shape[1]
        labels = torch.full((len(batch), width), _IGNORED)
        stored = [row.states for row in batch if row.states is not None]
        states = torch.nn.utils.rnn.pad_sequence(stored, batch_first=True) if stored else None
        for i, row in enumerate(batch):
            labels[i, len(row.prompt) - 1 : len(row.ids) - 1] = torch.tensor(row.answer)
        with blocks.replaced(states):
            logits = self.base.model(**inputs, use_cache=False, logits_to_keep=width - first).logits
        kept = labels[:, first:].to(logits.device)  # (batch, width - first), as the logits
        return torch.nn.functional.cross_entropy(logits.flatten(0, 1).float(), kept.flatten(), ignore_index=_IGNORED)


def _plain(config: Any, base_name: str) -> dict[str, Any]:
    values = {key: sorted(value) if isinstance(value, set) else value for key, value in config.to_dict().items()}
    return {**values, "base_model_name_or_path": base_name, "inference_mode": True}
