"""What happens in a training run, told one event at a time."""

from __future__ import annotations

from collections.abc import Callable

from attrs import frozen

from domain.early_stopping import Verdict
from domain.features import Matrix, Pooling
from domain.labels import LabelMap
from domain.router import RouterCard
from domain.training import StopReason, TrainOptions


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

Emit = Callable[[TrainingEvent], None]
"""Takes every event of a run as it happens."""
