"""The port that turns prompts into features."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from domain.features import BaseModel, FeatureTap, Matrix


class FeatureExtractor(Protocol):
    """Pooled hidden states of one frozen base model, without any LoRA adapter active.

    The contract:

    - Row i belongs to text i. A row depends on its text, tap and token limit only: not on the other texts, their
      order, the batch size, the padding side, a cache, or LoRA adapters that are attached to the base model.
    - Padding tokens never take part in pooling.
    - Every value is finite; a text that has no tokens (such as "") still gets a row.
    """

    @property
    def base(self) -> BaseModel:
        """The base model that features come from."""
        ...

    @property
    def max_tokens(self) -> int:
        """Texts are cut after this many tokens."""
        ...

    def extract(self, texts: Sequence[str], taps: Sequence[FeatureTap]) -> Matrix:
        """Return float32 features of shape ``(len(texts), len(taps) * base.hidden_size)``.

        Columns are the taps' vectors in the order given. One forward pass per distinct text, no deeper than the
        deepest tap. Raises UsageError for a tap outside the model.
        """
        ...

    def batches(self, texts: Sequence[str]) -> list[list[str]]:
        """Return the distinct texts in the groups that are encoded together, in the order in which that happens.

        Extracting some of these groups by themselves, in their order, gives the same bits as extracting them among
        all the others; so machines of one kind can share the work and change nothing.
        """
        ...
