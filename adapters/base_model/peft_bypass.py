"""Running a model as if no peft adapter were attached to it."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

from domain.errors import UsageError


@contextmanager
def bare_base(module: torch.nn.Module) -> Iterator[None]:
    """Switch off every peft layer inside `module`, and dropout, for the duration; afterwards all is as before.

    Sets peft's own flag on each layer instead of calling its ``disable_adapter``, which also changes which
    parameters require gradients and cannot put that back.

    Raises:
        UsageError: an adapter is merged into the weights, so that the base model is no longer there.
    """
    layers = _peft_layers(module)
    if any(getattr(layer, "merged", False) for layer in layers):
        raise UsageError("a LoRA adapter is merged into the base model", hint="call unmerge_adapter() first")
    flags = [layer._disable_adapters for layer in layers]
    training = [part for part in module.modules() if part.training]
    try:
        for layer in layers:
            layer._disable_adapters = True
        for part in training:
            part.training = False
        yield
    finally:
        for layer, flag in zip(layers, flags, strict=True):
            layer._disable_adapters = flag
        for part in training:
            part.training = True


def _peft_layers(module: torch.nn.Module) -> list[Any]:
    tuners = sys.modules.get("peft.tuners.tuners_utils")
    if tuners is None:
        return []  # importing peft takes seconds; where nobody did, there are no layers of it
    kinds = (tuners.BaseTunerLayer, sys.modules["peft.utils.other"].AuxiliaryTrainingWrapper)
    return [part for part in module.modules() if isinstance(part, kinds)]
