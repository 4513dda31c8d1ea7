"""Features out of a transformers model: one partial forward pass per prompt."""

from __future__ import annotations

import copy
import sys
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import numpy as np
import torch
from attrs import define, field

from adapters.base_model.halving import run_in_halves
from adapters.base_model.length_batches import length_sorted_batches
from adapters.base_model.peft_bypass import bare_base
from adapters.base_model.transformers_base import LoadedBase
from application.ports import ProgressReporter, ProgressTask
from domain.errors import DataRejectedError, UsageError
from domain.features import BaseModel, FeatureTap, Pooling

CPU_TOKEN_BUDGET = 512
GPU_TOKEN_BUDGET = 16384
_SHOWN_FROM = 32  # texts; fewer are done before a bar could be read


class _PassDone(Exception):  # noqa: N818 - no error: it ends a forward pass that has given all that is wanted
    pass


@define(eq=False)
class TransformersFeatureExtractor:
    """A :class:`application.ports.FeatureExtractor` that taps the blocks of a loaded base model.

    Forward hooks on the tapped blocks pool each state as it appears, and the deepest one ends the pass, so upper
    layers do not run. ``hidden_states`` indices are those of the whole model: 0 is what the first block is given,
    k what block k gives, and the last is the model's own output, after the final norm. Each batch is padded on
    the right by this class, whatever the tokenizer's padding side, so positions start at 0 for every prompt.

    peft layers inside the model are bypassed while it runs. Holds ``base.lock`` during `extract`: threads wait
    for each other, and whoever else runs the same model must hold it too.

    A row differs between batches because sums are taken in another order: in float32 by less than 1e-5 of its
    length (measured: 7e-7), in bfloat16 by about 1e-2 (measured on a CPU and on a GPU). On the CPU the same
    call gives the same bits.

    Attributes:
        base: on construction the loaded model; afterwards its description.
        max_tokens: texts are cut after this many tokens, special tokens included; on reading it is lower where
            the model itself has fewer positions.
        token_budget: padded tokens per batch; None takes 512 on a CPU (measured: docs/experiments.md)
            and 16,384 on a GPU (measured: there, too). Where memory runs out all the same, a batch is halved.
        max_batch: most texts per batch; None for no such limit.
        progress: shows how many texts are encoded, when there are many.
    """

    _loaded: LoadedBase = field(alias="base")
    _token_limit: int = field(default=512, alias="max_tokens")
    token_budget: int | None = None
    max_batch: int | None = None
    progress: ProgressReporter | None = None
    _tokenizer: Any = field(init=False, repr=False)

    def __attrs_post_init__(self) -> None:
        """Raise UsageError for a limit or budget below 1."""
        if self._token_limit < 1 or (self.token_budget is not None and self.token_budget < 1):
            raise UsageError(f"max-tokens {self._token_limit} or token budget {self.token_budget} is below 1")
        # Truncation is state inside a fast tokenizer: a copy keeps ours from mixing with generation's.
        self._tokenizer = copy.deepcopy(self._loaded.tokenizer)
        self._tokenizer.truncation_side = "right"

    @property
    def base(self) -> BaseModel:
        """The base model that features come from."""
        return self._loaded.info

    @property
    def max_tokens(self) -> int:
        """Texts are cut after this many tokens: the limit asked for, or fewer where the model has fewer positions."""
        return int(min(self._token_limit, _positions(self._loaded.text_tower), self._tokenizer.model_max_length))

    def extract(self, texts: Sequence[str], taps: Sequence[FeatureTap]) -> np.ndarray:
        """Return float32 features of shape ``(len(texts), len(taps) * base.hidden_size)``; see the port.

        Raises:
            UsageError: a tap outside the model, or above the layers that were loaded.
            DataRejectedError: the model gave a value that is not finite.
        """
        self._check(taps)
        size = self.base.hidden_size
        distinct = {text: row for row, text in enumerate(dict.fromkeys(texts))}
        encoded = np.zeros((len(distinct), len(taps) * size), dtype=np.float32)
        if taps and distinct:
            with self._loaded.lock, bare_base(self._loaded.text_tower), torch.no_grad():
                self._encode(self._token_ids(list(distinct)), taps, encoded)
        if not np.isfinite(encoded).all():
            raise DataRejectedError("gives features that are not finite", where=f"base model {self.base.name}")
        if len(distinct) == len(texts):
            return encoded
        return encoded[[distinct[text] for text in texts]]

    def batches(self, texts: Sequence[str]) -> list[list[str]]:
        """Return the distinct texts as the model is given them; see the port.

        All batches but the last are full, and batches are filled from the longest text down: so any of them, in
        this order, fall into the same batches again.
        """
        if not texts:
            return []
        distinct = list(dict.fromkeys(texts))
        return [[distinct[index] for index in batch] for batch in self._batches(self._token_ids(distinct))]

    def _batches(self, ids: list[list[int]]) -> list[list[int]]:
        on_cpu = self._loaded.device.type == "cpu"
        budget = self.token_budget or (CPU_TOKEN_BUDGET if on_cpu else GPU_TOKEN_BUDGET)
        return length_sorted_batches([len(row) for row in ids], budget, self.max_batch)

    def _check(self, taps: Sequence[FeatureTap]) -> None:
        where = f"base model {self.base.name}"
        deepest = self.base.n_layers if self._loaded.is_whole else len(self._loaded.blocks)
        for tap in taps:
            if not 0 <= tap.layer <= self.base.n_layers:
                raise UsageError(f"layer {tap.layer} is not in 0..{self.base.n_layers}", where=where)
            if tap.layer > deepest:
                raise UsageError(f"layer {tap.layer} is not loaded, only 0..{deepest}", where=where)

    def _token_ids(self, texts: list[str]) -> list[list[int]]:
        # A lone surrogate (a prompt out of a badly decoded command line) is not text for a tokenizer: it becomes "?".
        valid = [text.encode("utf-8", "replace").decode("utf-8") for text in texts]
        ids: list[list[int]] = self._tokenizer(valid, truncation=True, max_length=self.max_tokens)["input_ids"]
        return [row or [self.stand_ins[0]] for row in ids]

    @property
    def stand_ins(self) -> tuple[int, int]:
        """The token of a text that has none, and the one that fills shorter texts of a batch (it is masked)."""
        pad = self._first_id("pad_token_id", "eos_token_id")
        tower: Any = self._loaded.text_tower
        known = tower.get_input_embeddings().weight.shape[0]
        only = self._first_id("bos_token_id", "cls_token_id", "eos_token_id", "pad_token_id")
        return only, pad if pad < known else 0

    def _first_id(self, *names: str) -> int:
        found = (getattr(self._tokenizer, name, None) for name in names)
        return next((int(value) for value in found if value is not None), 0)

    def _encode(self, ids: list[list[int]], taps: Sequence[FeatureTap], out: np.ndarray) -> None:
        with self._shown(len(ids)) as task, _Probe(self._loaded, taps).attached() as probe:
            for batch in self._batches(ids):
                for part, rows in run_in_halves(batch, lambda part: probe.run(*self._padded([ids[i] for i in part]))):
                    out[part] = rows
                if task is not None:
                    task.advance(len(batch))

    def _shown(self, total: int) -> AbstractContextManager[ProgressTask | None]:
        if self.progress is None or total < _SHOWN_FROM:
            return nullcontext()
        return self.progress.track("Encoding prompts", total)

    def _padded(self, rows: list[list[int]]) -> tuple[torch.Tensor, torch.Tensor]:
        width = max(map(len, rows))
        pad = self.stand_ins[1]
        tokens = torch.tensor([row + [pad] * (width - len(row)) for row in rows])  # (B, T)
        mask = torch.tensor([[1] * len(row) + [0] * (width - len(row)) for row in rows])  # (B, T)
        return tokens.to(self._loaded.device), mask.to(self._loaded.device)


class _Probe:
    """The hooks of one extraction, and what they have pooled of the batch that runs."""

    def __init__(self, loaded: LoadedBase, taps: Sequence[FeatureTap]) -> None:
        self._loaded = loaded
        self._taps = taps
        self._deepest = max(tap.layer for tap in taps)
        self._mask = torch.empty(0)
        self._pooled: dict[FeatureTap, torch.Tensor] = {}

    @contextmanager
    def attached(self) -> Iterator[_Probe]:
        """Hook the tapped blocks for the duration."""
        blocks, last = self._loaded.blocks, self._loaded.info.n_layers
        handles = []
        try:
            for layer in sorted({tap.layer for tap in self._taps}):
                if layer == 0:
                    handles.append(blocks[0].register_forward_pre_hook(self._on_input, with_kwargs=True))
                elif layer < last:  # the last entry is the tower's own output
                    handles.append(blocks[layer - 1].register_forward_hook(self._on_output(layer)))
            yield self
        finally:
            for handle in handles:
                handle.remove()

    def run(self, tokens: torch.Tensor, mask: torch.Tensor) -> np.ndarray:
        """Return the features of one right-padded batch, shape (B, taps * hidden size)."""
        self._mask, self._pooled = mask, {}
        options = {} if self._loaded.kind == "encoder" else {"use_cache": False}
        try:
            output = self._loaded.text_tower(input_ids=tokens, attention_mask=mask, **options)
        except _PassDone:
            pass
        else:
            self._take(self._loaded.info.n_layers, output.last_hidden_state)
        return torch.cat([self._pooled[tap] for tap in self._taps], dim=1).cpu().numpy()

    def _on_input(self, _block: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self._take(0, args[0] if args else kwargs["hidden_states"])

    def _on_output(self, layer: int) -> Any:
        def hook(_block: Any, _args: Any, output: Any) -> None:
            self._take(layer, output[0] if isinstance(output, tuple | list) else output)

        return hook

    def _take(self, layer: int, states: torch.Tensor) -> None:
        if states.shape[-1] != self._loaded.info.hidden_size:
            raise DataRejectedError(
                f"layer {layer} is {states.shape[-1]} wide, the others {self._loaded.info.hidden_size}",
                where=f"base model {self._loaded.info.name}",
                hint="choose layers below it",
            )
        for tap in self._taps:
            if tap.layer == layer and tap not in self._pooled:
                self._pooled[tap] = _pool(states, self._mask, tap.pooling)
        if layer == self._deepest and layer < self._loaded.info.n_layers:
            raise _PassDone


def _positions(tower: torch.nn.Module) -> int:
    """Return how many tokens the model has positions for."""
    for name, module in tower.named_modules():
        if name.endswith("position_embeddings") and isinstance(module, torch.nn.Embedding):
            # RoBERTa counts positions from after the padding index
            return module.num_embeddings - (0 if module.padding_idx is None else module.padding_idx + 1)
    limit = getattr(tower.config, "max_position_embeddings", None)
    return limit if isinstance(limit, int) and limit > 0 else sys.maxsize  # some say -1 for no limit


def _pool(states: torch.Tensor, mask: torch.Tensor, pooling: Pooling) -> torch.Tensor:
    """Pool states (B, T, H) of a right-padded batch to float32 (B, H)."""
    counts = mask.sum(dim=1)  # (B,)
    if pooling is Pooling.LAST:
        return states[torch.arange(len(states), device=states.device), counts - 1].float()
    weights = mask.unsqueeze(-1)  # (B, T, 1)
    return (states.float() * weights).sum(dim=1) / counts.unsqueeze(-1)
