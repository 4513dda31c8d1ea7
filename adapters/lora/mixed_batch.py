"""Several LoRA adapters in one batch, each on its own neighbouring rows.

What peft's ``adapter_names`` does, with less work per layer: rows of one LoRA adapter lie side by side, so that
they are slices instead of gathered and scattered copies, and adding is done in place.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import groupby
from typing import Any

import torch
from peft.tuners.lora import LoraLayer

from adapters.base_model.peft_bypass import bare_base
from adapters.lora.peft_loading import BASE


@contextmanager
def mixed_batch(model: torch.nn.Module, names: Sequence[str]) -> Iterator[None]:
    """Within the context row i of a batch runs through LoRA adapter ``names[i]`` ("__base__" for none).

    Args:
        model: the base model with plain LoRA layers in it; in inference mode.
        names: names inside peft; equal ones must be neighbours.
    """
    spans: list[tuple[str, int, int]] = []
    for name, rows in groupby(names):
        start = spans[-1][2] if spans else 0
        spans.append((name, start, start + len(list(rows))))
    wanted = [span for span in spans if span[0] != BASE]

    def add(layer: Any, args: tuple[Any, ...], output: torch.Tensor) -> torch.Tensor:
        for name, start, end in wanted:
            if name in layer.lora_A:
                low = layer.lora_A[name](args[0][start:end].to(layer.lora_A[name].weight.dtype))  # (rows, T, rank)
                part = layer.lora_B[name](low)  # (rows, T, out)
                output[start:end].add_(part.to(output.dtype), alpha=layer.scaling[name])
        return output

    layers = [module for module in model.modules() if isinstance(module, LoraLayer)]
    handles = [layer.register_forward_hook(add) for layer in layers]
    try:
        with bare_base(model):
            yield
    finally:
        for handle in handles:
            handle.remove()
