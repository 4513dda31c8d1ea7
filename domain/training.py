"""One training run of a router: what is asked for, what happens, what comes out."""

from __future__ import annotations

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
        if not 0.0 <= self.target_error <= 1.0:
            raise UsageError(f"target-error {self.target_error} is not between 0 and 1")
        self.early_stop.start(self.learning_rate)


@frozen
class RunStarted:
    """The run knows its data and its settings.

    Attributes:
        options: what was asked for.
        n_train: training rows.
        n_val: validation rows.
        base_model: name of the base model.
        log_dir: where the metrics go, or None.
    """

    options: TrainOptions
    n_train: int
    n_val: int
    base_model: str
    log_dir: str | None = None


@frozen
class Evaluated:
    """One evaluation on the validation rows.

    Attributes:
        step: training steps so far, from 1.
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
        reason: one of "epochs", "stopped-max-reductions", "stopped-min-learning-rate", "diverged", "interrupted".
        best_loss: lowest evaluation loss.
        best_accuracy: evaluation accuracy at that point.
    """

    step: int
    reason: str
    best_loss: float
    best_accuracy: float


@frozen
class Noted:
    """Something a person should read that has no figure of its own: a choice, a warning, a resumed run."""

    message: str


TrainingEvent = RunStarted | Evaluated | LearningRateReduced | RunStopped | Noted
"""Everything that a training run tells while it goes on."""
