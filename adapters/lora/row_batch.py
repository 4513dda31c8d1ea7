"""Rows that run through the model together, one token each per step; rows join and leave between steps."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager
from typing import Any

import torch
from attrs import define, field
from torch.nn.functional import pad
from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer, DynamicSlidingWindowLayer

from adapters.lora.generation_control import AnswerRow, row_scores


def can_join(model: Any) -> bool:
    """Tell whether rows of this model can join a batch that runs: all its memory of a text is keys and values."""
    takes = inspect.signature(model.forward).parameters
    layers = DynamicCache(config=model.config).layers
    plain = all(type(layer) in (DynamicLayer, DynamicSlidingWindowLayer) for layer in layers)
    return bool(plain and {"position_ids", "attention_mask", "past_key_values"} <= takes.keys())


@define(eq=False)
class RowBatch:
    """A batch that goes on as long as rows are in it.

    Attributes:
        speaking: gives the model through which rows with these adapters run (neighbours are equal).
        device: where the model is.
        pad_id: token that fills rows on the left.
        rows: the rows whose answers grow.
    """

    speaking: Callable[[Sequence[str | None]], AbstractContextManager[Any]]
    device: torch.device
    pad_id: int
    rows: list[AnswerRow] = field(factory=list, init=False)
    _cache: Any = field(default=None, init=False)
    _mask: torch.Tensor = field(default=None, init=False)  # (B, T): which places of the cache hold a token
    _last: torch.Tensor = field(default=None, init=False)  # (B, 1): each row's newest token, not in the cache yet

    @torch.inference_mode()
    def join(self, rows: Sequence[AnswerRow]) -> None:
        """Run the prompts of new rows, choose their first tokens, and add them to the batch."""
        new = sorted(rows, key=_place)
        width = max(1, *(len(row.ids) for row in new))
        ids = torch.tensor([[self.pad_id] * (width - len(row.ids)) + row.ids for row in new], device=self.device)
        mask = torch.tensor([[0] * (width - len(row.ids)) + [1] * len(row.ids) for row in new], device=self.device)
        cache = DynamicCache()
        last = self._next(new, ids, mask, cache)
        if not self.rows:
            self.rows, self._cache, self._mask, self._last = new, cache, mask, last
        else:
            self._merge(new, cache, mask, last)
        self._keep(lambda row: row.answer.finish is None)

    @torch.inference_mode()
    def step(self) -> None:
        """Add one token to every row; rows that have ended leave."""
        ones = torch.ones_like(self._last)
        self._mask = torch.cat([self._mask, ones], dim=1)
        self._last = self._next(self.rows, self._last, self._mask, self._cache)
        self._keep(lambda row: row.answer.finish is None)

    @torch.inference_mode()
    def leave(self, gone: Iterable[AnswerRow]) -> None:
        """Take rows out whose answers nobody waits for any more."""
        out = {id(row) for row in gone}
        self._keep(lambda row: id(row) not in out)

    def _next(self, rows: Sequence[AnswerRow], ids: torch.Tensor, mask: torch.Tensor, cache: Any) -> torch.Tensor:
        """Run the model on new tokens (B, N), with a mask over the cache and them (B, T); return the next (B, 1)."""
        positions = (mask.cumsum(dim=1) - 1).clamp(min=0)[:, -ids.shape[1] :]
        with self.speaking([row.adapter for row in rows]) as model:
            logits = model(
                input_ids=ids,
                attention_mask=mask,
                position_ids=positions,
                past_key_values=cache,
                use_cache=True,
                logits_to_keep=1,
            ).logits[:, -1]  # (B, vocabulary)
        chosen = row_scores(rows, logits).argmax(dim=1)
        for row, token in zip(rows, chosen.tolist(), strict=True):
            row.answer.push(token)
        return chosen[:, None]

    def _merge(self, new: list[AnswerRow], cache: Any, mask: torch.Tensor, last: torch.Tensor) -> None:
        width = max(mask.shape[1], self._mask.shape[1])
        for mine, theirs in zip(self._cache.layers, cache.layers, strict=True):
            if mine.is_initialized:
                mine.keys = torch.cat([_widened(mine.keys, width), _widened(theirs.keys, width)])
                mine.values = torch.cat([_widened(mine.values, width), _widened(theirs.values, width)])
        masks = [pad(each, (width - each.shape[1], 0)) for each in (self._mask, mask)]
        self._mask = torch.cat(masks)
        self._last = torch.cat([self._last, last])
        self.rows = [*self.rows, *new]
        order = sorted(range(len(self.rows)), key=lambda index: _place(self.rows[index]))
        self._select(order)

    def _keep(self, wanted: Callable[[AnswerRow], bool]) -> None:
        kept = [index for index, row in enumerate(self.rows) if wanted(row)]
        if len(kept) < len(self.rows):
            self._select(kept)

    def _select(self, order: list[int]) -> None:
        self.rows = [self.rows[index] for index in order]
        if not self.rows:
            self._cache = self._mask = self._last = None  # type: ignore[assignment]
            return
        chosen = torch.tensor(order, device=self.device)
        self._mask, self._last = self._mask[chosen], self._last[chosen]
        start = int(self._mask.any(dim=0).int().argmax())  # the longest row may have left
        self._mask = self._mask[:, start:]
        for layer in self._cache.layers:
            if layer.is_initialized:
                layer.keys = layer.keys[chosen][..., start:, :]
                layer.values = layer.values[chosen][..., start:, :]


def _place(row: AnswerRow) -> str:
    return row.adapter or ""  # rows of one adapter are neighbours


def _widened(states: torch.Tensor, width: int) -> torch.Tensor:
    """Pad keys or values (B, heads, T, size) on the left to a number of tokens."""
    return pad(states, (0, 0, width - states.shape[-2], 0))
