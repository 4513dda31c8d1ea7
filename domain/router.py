"""What a trained router is, apart from its numbers."""

from __future__ import annotations

from attrs import frozen

from domain.features import FeatureSpec
from domain.labels import LabelMap
from domain.routing import AbstentionThresholds
from domain.trade_off import TradeOff
from domain.turns import TurnChoice


@frozen
class RouterCard:
    """The description that travels inside a router file, next to its tensors.

    Attributes:
        labels: which label means which adapter.
        features: how to turn a prompt into the features that the head was trained on.
        head: kind of head, for example "linear".
        temperature: the head's logits are divided by this before the softmax; positive.
        thresholds: when to abstain.
        target_error: the error rate that the thresholds were fitted to, 0 to 1.
        seed: seed of the training run.
        n_train: number of training prompts.
        n_val: number of validation prompts.
        n_out_of_scope: number of out-of-scope prompts that the user gave.
        val_accuracy: accuracy on the validation prompts, abstention aside.
        dataset: name of the routing data set.
        dataset_sha256: hash of the training and validation rows, to tell versions of a router apart.
        created_at: UTC time of training, ISO 8601.
        tool_version: version of this software that trained it.
        turn: which human turns of a conversation it was trained on, and therefore reads.
        trade_off: what other limits would do to prompts that it has not seen.
    """

    labels: LabelMap
    features: FeatureSpec
    head: str
    temperature: float
    thresholds: AbstentionThresholds
    target_error: float
    seed: int
    n_train: int
    n_val: int
    n_out_of_scope: int
    val_accuracy: float
    dataset: str
    dataset_sha256: str
    created_at: str
    tool_version: str
    turn: TurnChoice = TurnChoice.FIRST
    trade_off: tuple[TradeOff, ...] = ()

    @property
    def expected(self) -> TradeOff | None:
        """What the router's own limits do to prompts that it has not seen; None when `trade_off` lacks its target."""
        return next((one for one in self.trade_off if one.target_error == self.target_error), None)
