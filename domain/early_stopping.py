"""When to lower the learning rate and when to stop, decided from evaluation losses alone."""

from __future__ import annotations

import math
from enum import StrEnum

from attrs import evolve, frozen

from domain.errors import UsageError

MAX_LEARNING_RATE = 1e30
"""Steps of a higher rate do not fit a 32-bit number, in which heads are trained."""


class Verdict(StrEnum):
    """What one evaluation means for the run."""

    IMPROVED = "improved"
    WAITING = "waiting"
    REDUCED_LEARNING_RATE = "reduced-learning-rate"
    STOPPED_MAX_REDUCTIONS = "stopped-max-reductions"
    STOPPED_MIN_LEARNING_RATE = "stopped-min-learning-rate"

    @property
    def stops(self) -> bool:
        """Whether the run ends here."""
        return self in (Verdict.STOPPED_MAX_REDUCTIONS, Verdict.STOPPED_MIN_LEARNING_RATE)


@frozen
class EarlyStopState:
    """Where a run stands; plain numbers, so that a checkpoint can carry it.

    Attributes:
        learning_rate: the rate to train with from here.
        best_loss: lowest evaluation loss that counted as an improvement; infinite before the first.
        waited: evaluations since the last improvement or reduction.
        reductions: how often the learning rate was reduced.
    """

    learning_rate: float
    best_loss: float = math.inf
    waited: int = 0
    reductions: int = 0


@frozen
class EarlyStopPolicy:
    """Reduce on plateau, then stop: a pure state machine over evaluation losses.

    An evaluation improves when its loss is lower than the best by at least `min_delta`. After `patience`
    evaluations without improvement the learning rate is multiplied by `lr_factor` and patience starts again;
    once the rate has been reduced `max_lr_reductions` times, or lies below `min_lr`, the next exhausted
    patience stops the run. NaN counts as the worst possible loss.

    Attributes:
        patience: evaluations without improvement that are tolerated, 1 or more.
        min_delta: least decrease of the loss that counts, 0 or more.
        lr_factor: factor of one reduction, strictly between 0 and 1.
        max_lr_reductions: reductions before the run stops, 0 or more.
        min_lr: learning rate below which no further reduction is tried.
    """

    patience: int = 5
    min_delta: float = 1e-3
    lr_factor: float = 0.5
    max_lr_reductions: int = 5
    min_lr: float = 5e-8

    def __attrs_post_init__(self) -> None:
        """Raise UsageError with the rule and the offending value."""
        rules = (
            (self.patience >= 1, f"patience {self.patience} is below 1"),
            (self.min_delta >= 0, f"min-delta {self.min_delta} is not 0 or more"),
            (0 < self.lr_factor < 1, f"lr-factor {self.lr_factor} is not strictly between 0 and 1"),
            (self.max_lr_reductions >= 0, f"max-lr-reductions {self.max_lr_reductions} is negative"),
            (self.min_lr >= 0, f"min-lr {self.min_lr} is not 0 or more"),
        )
        for holds, message in rules:
            if not holds:
                raise UsageError(message)

    def start(self, learning_rate: float) -> EarlyStopState:
        """Return the state before the first evaluation; raises UsageError unless steps of this rate can be taken."""
        if not (math.isfinite(learning_rate) and learning_rate > 0):
            raise UsageError(f"learning rate {learning_rate} is not a positive number")
        if learning_rate > MAX_LEARNING_RATE:
            raise UsageError(f"learning rate {learning_rate:g} is above {MAX_LEARNING_RATE:g}")
        return EarlyStopState(learning_rate)

    def observe(self, state: EarlyStopState, loss: float) -> tuple[EarlyStopState, Verdict]:
        """Return the state after an evaluation with this loss, and what it means."""
        if loss < state.best_loss and state.best_loss - loss >= self.min_delta:  # false for NaN
            return evolve(state, best_loss=loss, waited=0), Verdict.IMPROVED
        waited = state.waited + 1
        if waited < self.patience:
            return evolve(state, waited=waited), Verdict.WAITING
        if state.reductions >= self.max_lr_reductions:
            return evolve(state, waited=waited), Verdict.STOPPED_MAX_REDUCTIONS
        if state.learning_rate < self.min_lr:
            return evolve(state, waited=waited), Verdict.STOPPED_MIN_LEARNING_RATE
        reduced = evolve(
            state,
            learning_rate=state.learning_rate * self.lr_factor,
            waited=0,
            reductions=state.reductions + 1,
        )
        return reduced, Verdict.REDUCED_LEARNING_RATE
