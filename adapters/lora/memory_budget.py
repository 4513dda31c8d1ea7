"""How many tokens of a batch fit into the memory that is free."""

from __future__ import annotations

from typing import Any, Final

import torch

CPU_TOKEN_BUDGET: Final = 4096
GPU_TOKEN_BUDGET: Final = 65536
_SHARE: Final = 0.7
"""Part of the free memory that a batch may take; logits and the memory between blocks need the rest."""


def cache_bytes_per_token(config: Any, dtype: torch.dtype) -> int:
    """Return the bytes of keys and values that one token leaves in every layer.

    Args:
        config: the text model's configuration.
        dtype: what the model computes in.
    """
    heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
    width = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    return int(2 * config.num_hidden_layers * heads * width * dtype.itemsize)


def block_bytes_per_token(config: Any, dtype: torch.dtype) -> int:
    """Return the bytes that one token of a prompt takes while a block reads it.

    The most is alive in the MLP: its gate, its input and their product, beside the states before and after.

    Args:
        config: the text model's configuration.
        dtype: what the model computes in.
    """
    inner = getattr(config, "intermediate_size", None) or 4 * config.hidden_size
    return int((3 * inner + 6 * config.hidden_size) * dtype.itemsize)


def token_budget(model: Any, device: torch.device, free: int | None = None) -> int:
    """Return how many tokens one batch may hold, padding and new tokens included.

    Args:
        model: the base model, loaded.
        device: where it runs.
        free: bytes that are free there; None asks the GPU.
    """
    if device.type == "cpu":
        return CPU_TOKEN_BUDGET
    if free is None:
        free = torch.cuda.mem_get_info(device)[0] + _reusable(device)
    config = model.config.get_text_config()
    each = cache_bytes_per_token(config, model.dtype) + block_bytes_per_token(config, model.dtype)
    fitting = int(_SHARE * free) // each
    return max(1, min(GPU_TOKEN_BUDGET, fitting))


def _reusable(device: torch.device) -> int:
    """Return the bytes that PyTorch holds on the device without using them."""
    return torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
