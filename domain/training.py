"""One training run of a router: what is asked for, what happens, what comes out."""

from __future__ import annotations

import random
from enum import StrEnum
from functools import lru_cache

from attrs import field, frozen

from domain.early_stopping import EarlyStopPolicy, Verdict
from domain.errors import UsageError
from domain.features import Matrix, Pooling
from domain.labels import LabelMap
from domain.router import RouterCard


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
        target_error: error rate that the abstention thresholds are fitted to, 0 to 1.
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
    target_error: float = 0.02
    max_tokens: int = 512

    def __attrs_post_init__(self) -> None:
        """Raise UsageError with the rule and the offending value."""
        for name in ("epochs", "batch_size", "eval_steps", "max_tokens"):
            if getattr(self, name) < 1:
                raise UsageError(f"{name.replace('_', '-')} {getattr(self, name)} is below 1")
        if self.layers is not None and min(self.layers, default=0) < 0:
            raise UsageError(f"layer {min(self.layers)} is negative", hint="0 is the embeddings, 1 the first block")
        if not 0.0 <= self.target_error <= 1.0:
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


@frozen
class RunStarted:
    """The run knows its data and its settings.

    Attributes:
        options: what was asked for.
        n_train: training rows.
        n_val: validation rows.
        base_model: name of the base model.
        log_dir: where the metrics go, or None.
        labels: which label means which adapter.
        n_out_of_scope: examples of prompts that belong to no adapter.
    """

    options: TrainOptions
    n_train: int
    n_val: int
    base_model: str
    log_dir: str | None
    labels: LabelMap
    n_out_of_scope: int = 0


@frozen(eq=False)
class FeaturesReady:
    """Every prompt has been encoded, and layers and pooling are settled.

    Attributes:
        features: raw features of the training rows, then of the validation rows, ``(n, n_features)``.
        labels: label of each row.
        texts: prompt of each row.
        layers: the chosen indices into ``hidden_states``.
        pooling: the chosen pooling.
    """

    features: Matrix
    labels: tuple[int, ...]
    texts: tuple[str, ...]
    layers: tuple[int, ...]
    pooling: Pooling


@frozen
class CandidateScored:
    """One choice that was tried, on training and validation rows only.

    Attributes:
        choice: what is being chosen: "features" or "head".
        name: the candidate, for example "layers 1+4+7+10, mean pooling".
        loss: its loss, the criterion: the lowest wins.
        accuracy: its accuracy, 0 to 1.
        chosen: whether it won.
    """

    choice: str
    name: str
    loss: float
    accuracy: float
    chosen: bool


@frozen
class Evaluated:
    """One evaluation on the validation rows.

    Attributes:
        step: training steps so far; 0 for the head as it was initialised.
        epoch: current epoch, from 1.
        train_loss: mean training loss since the last evaluation, in nats.
        train_accuracy: accuracy on the training batches since the last evaluation, 0 to 1.
        eval_loss: mean cross entropy on the validation rows, in nats.
        eval_accuracy: accuracy on the validation rows, 0 to 1.
        learning_rate: learning rate of the steps before this evaluation.
        verdict: what the evaluation means for the run.
    """

    step: int
    epoch: int
    train_loss: float
    train_accuracy: float
    eval_loss: float
    eval_accuracy: float
    learning_rate: float
    verdict: Verdict


@frozen(eq=False)
class ValidationScored:
    """What the head says of every validation row; follows each :class:`Evaluated`.

    Attributes:
        step: training steps so far.
        probabilities: uncalibrated probability per label, ``(n_val, n_labels)``.
        labels: true label of each row.
    """

    step: int
    probabilities: Matrix
    labels: tuple[int, ...]


@frozen
class LearningRateReduced:
    """Patience ran out and the learning rate was lowered."""

    step: int
    before: float
    after: float
    reduction: int
    max_reductions: int


@frozen
class RunStopped:
    """The run is over.

    Attributes:
        step: training steps done.
        reason: why.
        best_loss: evaluation loss of the head that is kept: the last that was lower than all kept before it by at
            least min-delta. A loss that was lower by less may have been seen since; infinite when none was kept.
        best_accuracy: evaluation accuracy of that head.
        best_step: training steps that it had seen; None when no head was kept.
    """

    step: int
    reason: StopReason
    best_loss: float
    best_accuracy: float
    best_step: int | None = None


@frozen
class Calibrated:
    """The router is complete: its limits are fitted, and what it remembers is settled.

    Attributes:
        card: the router's description.
        known: what it compares prompts with, one row per remembered prompt, ``(n, width)``.
        labels: label of each remembered prompt, ``(n,)``.
        texts: the remembered prompts.
    """

    card: RouterCard
    known: Matrix
    labels: Matrix
    texts: tuple[str, ...]


@frozen
class Noted:
    """Something a person should read that has no figure of its own: a choice, a warning, a resumed run."""

    message: str


TrainingEvent = (
    RunStarted
    | FeaturesReady
    | CandidateScored
    | Evaluated
    | ValidationScored
    | LearningRateReduced
    | RunStopped
    | Calibrated
    | Noted
)
"""Every event of a training run."""
