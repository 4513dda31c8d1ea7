"""One training run of a router: what is asked for, in which order it sees its rows, why it ends."""

from __future__ import annotations

import random
from enum import StrEnum
from functools import lru_cache

from attrs import field, frozen

from domain.early_stopping import EarlyStopPolicy, Verdict
from domain.errors import UsageError
from domain.features import Pooling


@frozen
class TrainOptions:
    """How to train a router head; the defaults are the command line's.

    Attributes:
        epochs: most passes over the training rows, 1 or more.
        batch_size: rows per step, 1 or more; the last batch of an epoch may be short.
        learning_rate: initial learning rate.
        eval_steps: steps between evaluations on the validation rows, 1 or more.
        early_stop: when to reduce the learning rate and stop.
        seed: decides initialisation and data order.
        layers: indices into ``hidden_states``, or None to choose them on training/validation data.
        pooling: pooling, or None to choose it on training/validation data.
        head: "auto" (chosen on validation data) or the name of a head.
        target_error: error rate that the abstention thresholds are fitted to, 0 to 1; None to choose it by the data,
            see :func:`domain.abstention.fit_thresholds`.
        max_tokens: prompts are cut after this many tokens.
    """

    epochs: int = 100
    batch_size: int = 8
    learning_rate: float = 1e-4
    eval_steps: int = 20
    early_stop: EarlyStopPolicy = field(factory=EarlyStopPolicy)
    seed: int = 42
    layers: tuple[int, ...] | None = None
    pooling: Pooling | None = None
    head: str = "auto"
    target_error: float | None = None
    max_tokens: int = 512

    def __attrs_post_init__(self) -> None:
        """Raise UsageError with the rule and the offending value."""
        for name in ("epochs", "batch_size", "eval_steps", "max_tokens"):
            if getattr(self, name) < 1:
                raise UsageError(f"{name.replace('_', '-')} {getattr(self, name)} is below 1")
        if self.layers is not None and min(self.layers, default=0) < 0:
            raise UsageError(f"layer {min(self.layers)} is negative", hint="0 is the embeddings, 1 the first block")
        if self.target_error is not None and not 0.0 <= self.target_error <= 1.0:
            raise UsageError(f"target-error {self.target_error} is not between 0 and 1")
        self.early_stop.start(self.learning_rate)


class StopReason(StrEnum):
    """Why a run is over."""

    EPOCHS = "epochs"
    MAX_REDUCTIONS = str(Verdict.STOPPED_MAX_REDUCTIONS)
    MIN_LEARNING_RATE = str(Verdict.STOPPED_MIN_LEARNING_RATE)
    DIVERGED = "diverged"
    INTERRUPTED = "interrupted"


@lru_cache(maxsize=2)  # every step of an epoch asks again
def epoch_order(n_rows: int, seed: int, epoch: int) -> tuple[int, ...]:
    """Return the order in which an epoch visits the rows: a function of these three numbers and nothing else.

    Args:
        n_rows: number of training rows.
        seed: seed of the run.
        epoch: number of the epoch.
    """
    order = list(range(n_rows))
    random.Random(f"{seed}:{epoch}").shuffle(order)  # a string seeds through SHA-512, the same everywhere
    return tuple(order)
