"""Running only the upper blocks of a model, on states that its frozen lower blocks gave once.

What the lower blocks make of a row never changes while they are frozen and see no LoRA adapter; so it is computed
once per row and put in the place of block k-1's output in every later pass. That is exact, not an approximation.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from attrs import define


class _Reached(Exception):  # noqa: N818 - it ends a pass early and is not an error
    """The pass is as deep as it has to be."""


@define(eq=False)
class FrozenBlocks:
    """The lowest blocks of a model, to be run once per row.

    Attributes:
        blocks: the blocks, in order; empty when every block is trained.
    """

    blocks: Sequence[torch.nn.Module]
    _gives_tuple: bool = False

    @torch.no_grad()
    def states(self, model: Any, inputs: dict[str, torch.Tensor]) -> torch.Tensor | None:
        """Return what the frozen blocks make of a batch, shape (batch, tokens, hidden); None without blocks."""
        if not self.blocks:
            return None
        found: list[torch.Tensor] = []

        def keep(_module: torch.nn.Module, _args: object, output: Any) -> None:
            self._gives_tuple = isinstance(output, tuple)
            found.append(output[0] if isinstance(output, tuple) else output)
            raise _Reached

        handle = self.blocks[-1].register_forward_hook(keep)
        try:
            model(**inputs, use_cache=False)
        except _Reached:
            pass
        finally:
            handle.remove()
        return found[0]

    @contextmanager
    def replaced(self, states: torch.Tensor | None) -> Iterator[None]:
        """Within the context the model runs from `states` (batch, tokens, hidden) upwards; call `states` first."""
        if states is None:
            yield
            return

        def below(hidden_states: torch.Tensor, *_args: object, **_kwargs: object) -> object:
            return (hidden_states,) if self._gives_tuple else hidden_states

        def top(*_args: object, **_kwargs: object) -> object:
            return (states,) if self._gives_tuple else states

        try:
            for block in self.blocks:  # an instance's own `forward` hides the class's
                block.forward = top if block is self.blocks[-1] else below
            yield
        finally:
            for block in self.blocks:
                block.__dict__.pop("forward", None)
