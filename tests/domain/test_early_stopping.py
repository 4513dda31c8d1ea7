"""The early-stopping state machine against an independent little model of its rules."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.early_stopping import EarlyStopPolicy, EarlyStopState, Verdict
from domain.errors import UsageError

LOSSES = st.lists(
    st.one_of(st.floats(0, 3, width=16), st.sampled_from([math.nan, math.inf, 0.5, 0.499, 0.4995])), max_size=80
)


@st.composite
def policies(draw: st.DrawFn) -> EarlyStopPolicy:
    return EarlyStopPolicy(
        patience=draw(st.integers(1, 4)),
        min_delta=draw(st.sampled_from([0.0, 0.001, 0.25])),
        lr_factor=draw(st.sampled_from([0.5, 0.1])),
        max_lr_reductions=draw(st.integers(0, 4)),
        min_lr=draw(st.sampled_from([0.0, 5e-8, 3e-5])),
    )


def run(policy: EarlyStopPolicy, losses: list[float], lr: float = 1e-4) -> list[tuple[Verdict, EarlyStopState]]:
    state, seen = policy.start(lr), []
    for loss in losses:
        state, verdict = policy.observe(state, loss)
        seen.append((verdict, state))
        if verdict.stops:
            break
    return seen


def retell(policy: EarlyStopPolicy, losses: list[float], lr: float) -> list[str]:
    """Say the same from the whole history, without carrying state from evaluation to evaluation."""
    told: list[str] = []
    for index in range(len(losses)):
        best = math.inf
        last_event = -1  # index of the last improvement or reduction
        for i, word in enumerate(told):
            if word == "improved":
                best, last_event = losses[i], i
            elif word == "reduced":
                last_event = i
        reductions = told.count("reduced")
        loss = math.inf if math.isnan(losses[index]) else losses[index]
        if loss < best and best - loss >= policy.min_delta:
            told.append("improved")
        elif index - last_event < policy.patience:
            told.append("waiting")
        elif reductions == policy.max_lr_reductions:
            told.append("stopped: reductions")
        elif lr * policy.lr_factor**reductions < policy.min_lr:
            told.append("stopped: rate")
        else:
            told.append("reduced")
        if told[-1].startswith("stopped"):
            break
    return told


WORDS = {
    Verdict.IMPROVED: "improved",
    Verdict.WAITING: "waiting",
    Verdict.REDUCED_LEARNING_RATE: "reduced",
    Verdict.STOPPED_MAX_REDUCTIONS: "stopped: reductions",
    Verdict.STOPPED_MIN_LEARNING_RATE: "stopped: rate",
}


@given(policies(), LOSSES, st.sampled_from([1e-4, 5e-5]))
def test_agrees_with_the_rules_told_from_the_whole_history(policy, losses, lr):
    assert [WORDS[verdict] for verdict, _ in run(policy, losses, lr)] == retell(policy, losses, lr)


@given(policies(), LOSSES)
def test_the_best_loss_is_a_loss_that_was_seen_and_the_rate_only_falls(policy, losses):
    rates = [1e-4]
    for _, state in run(policy, losses):
        assert state.best_loss == math.inf or state.best_loss in losses
        rates.append(state.learning_rate)
    assert rates == sorted(rates, reverse=True)
    assert len(set(rates)) <= policy.max_lr_reductions + 1


@given(policies())
def test_a_run_that_never_improves_always_stops(policy):
    most = policy.patience * (policy.max_lr_reductions + 1)
    assert run(policy, [math.nan] * (most + 1))[-1][0].stops


def test_the_guides_defaults_stop_after_five_reductions():
    verdicts = [verdict for verdict, _ in run(EarlyStopPolicy(), [0.5] + [0.5] * 100)]
    assert verdicts.count(Verdict.REDUCED_LEARNING_RATE) == 5
    assert verdicts[-1] is Verdict.STOPPED_MAX_REDUCTIONS
    assert len(verdicts) == 1 + 5 * 6


def test_exactly_min_delta_is_an_improvement_and_less_is_not():
    policy = EarlyStopPolicy(min_delta=0.25)
    assert [verdict for verdict, _ in run(policy, [1.0, 0.75, 0.625])] == [
        Verdict.IMPROVED,
        Verdict.IMPROVED,
        Verdict.WAITING,
    ]


def test_stops_once_the_rate_lies_below_the_minimum():
    policy = EarlyStopPolicy(patience=1, max_lr_reductions=99, min_lr=3e-5)
    verdicts = [verdict for verdict, _ in run(policy, [1.0] * 9)]
    assert verdicts == [
        Verdict.IMPROVED,
        Verdict.REDUCED_LEARNING_RATE,
        Verdict.REDUCED_LEARNING_RATE,
        Verdict.STOPPED_MIN_LEARNING_RATE,
    ]


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"patience": 0}, "patience 0"),
        ({"min_delta": -1.0}, "min-delta -1.0"),
        ({"min_delta": math.nan}, "min-delta nan"),
        ({"lr_factor": 1.0}, "lr-factor 1.0"),
        ({"max_lr_reductions": -1}, "max-lr-reductions -1"),
        ({"min_lr": -1.0}, "min-lr -1.0"),
    ],
)
def test_refuses_settings_that_make_no_sense(setting, message):
    with pytest.raises(UsageError, match=message):
        EarlyStopPolicy(**setting)


@pytest.mark.parametrize("rate", [0.0, -1.0, math.nan, math.inf])
def test_refuses_a_learning_rate_that_is_not_a_positive_number(rate):
    with pytest.raises(UsageError, match="learning rate"):
        EarlyStopPolicy().start(rate)
