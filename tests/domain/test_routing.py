"""The decision: every limit, every order and every case that a router can meet."""

from __future__ import annotations

from math import inf, isnan, nan

import pytest
from attrs import evolve
from hypothesis import given
from hypothesis import strategies as st

from domain.errors import UsageError
from domain.labels import LabelMap
from domain.routing import (
    AbstentionThresholds,
    NearestPrompt,
    OtherLimits,
    Reason,
    RouteScores,
    RoutingDecision,
    decide,
)

LABELS = LabelMap(("red", "green", "blue"))
NEAREST = (NearestPrompt("a rose", "red", 0.9), NearestPrompt("grass", "green", 0.1))
SCORES = RouteScores((0.25, 0.625, 0.125), 0.3, NEAREST)  # exact in binary, so that a limit can be met exactly
LIMITS = AbstentionThresholds(min_confidence=0.6, max_out_of_scope=0.4)


def outcome(decision: RoutingDecision) -> tuple[str | None, Reason]:
    return decision.adapter, decision.reason


def test_a_confident_decision_says_all_that_is_behind_it():
    decision = decide(SCORES, LABELS, LIMITS)
    assert outcome(decision) == ("green", Reason.CONFIDENT)
    assert (decision.best, decision.runner_up) == ("green", "red")
    assert decision.confidence == 0.625
    assert decision.margin == 0.375
    assert decision.probabilities == (("red", 0.25), ("green", 0.625), ("blue", 0.125))
    assert (decision.out_of_scope, decision.thresholds, decision.nearest) == (0.3, LIMITS, NEAREST)


@pytest.mark.parametrize(
    ("min_confidence", "max_out_of_scope", "expected"),
    [
        (0.625, 0.3, ("green", Reason.CONFIDENT)),  # a value that equals its limit passes
        (0.626, 0.3, (None, Reason.LOW_CONFIDENCE)),
        (0.625, 0.299, (None, Reason.OUT_OF_SCOPE)),
        (0.626, 0.299, (None, Reason.OUT_OF_SCOPE)),  # of two reasons, the prompt's comes before the adapter's
        (0.0, inf, ("green", Reason.CONFIDENT)),
    ],
)
def test_each_limit_abstains_beyond_it_and_the_reasons_have_an_order(min_confidence, max_out_of_scope, expected):
    decision = decide(SCORES, LABELS, AbstentionThresholds(min_confidence, max_out_of_scope))
    assert outcome(decision) == expected
    assert (decision.best, decision.runner_up) == ("green", "red")  # known also when it abstains
    assert decision.confidence == 0.625


def test_without_limits_every_prompt_gets_its_best_adapter():
    unsure = RouteScores((0.34, 0.33, 0.33), 1e9)
    assert outcome(decide(unsure, LABELS, AbstentionThresholds())) == ("red", Reason.CONFIDENT)


def test_a_tie_goes_to_the_lower_label_and_has_no_margin():
    decision = decide(RouteScores((0.2, 0.4, 0.4), 0.0), LABELS, AbstentionThresholds())
    assert (decision.adapter, decision.runner_up, decision.margin) == ("green", "blue", 0.0)
    decision = decide(RouteScores((0.25, 0.5, 0.25), 0.0), LABELS, AbstentionThresholds())
    assert (decision.adapter, decision.runner_up) == ("green", "red")


@pytest.mark.parametrize("limits", [AbstentionThresholds(), AbstentionThresholds(0.6, inf), LIMITS])
@pytest.mark.parametrize(
    ("scores", "reason"),
    [
        (evolve(SCORES, out_of_scope=nan), Reason.OUT_OF_SCOPE),
        (evolve(SCORES, probabilities=(nan, 0.5, 0.5)), Reason.LOW_CONFIDENCE),
        (evolve(SCORES, probabilities=(nan, nan, nan)), Reason.LOW_CONFIDENCE),
        (evolve(SCORES, probabilities=(nan, nan, nan), out_of_scope=nan), Reason.OUT_OF_SCOPE),
    ],
)
def test_a_score_that_is_not_a_number_abstains_whatever_the_limits(scores, reason, limits):
    assert outcome(decide(scores, LABELS, limits)) == (None, reason)


def test_a_confidence_that_is_not_a_number_is_not_reported_as_one():
    assert isnan(decide(evolve(SCORES, probabilities=(nan, 0.5, 0.5)), LABELS, LIMITS).confidence)


def test_disabled_adapters_are_left_out_and_the_others_share_their_probability():
    decision = decide(SCORES, LABELS, LIMITS, {"green"})
    assert outcome(decision) == ("red", Reason.CONFIDENT)
    assert decision.confidence == pytest.approx(2 / 3)
    assert (decision.runner_up, decision.margin) == ("blue", pytest.approx(1 / 3))
    assert dict(decision.probabilities) == pytest.approx({"red": 2 / 3, "blue": 1 / 3})
    stricter = decide(SCORES, LABELS, evolve(LIMITS, min_confidence=0.67), {"green"})
    assert outcome(stricter) == (None, Reason.LOW_CONFIDENCE)


def test_the_last_enabled_adapter_is_certain_and_has_no_runner_up():
    decision = decide(SCORES, LABELS, LIMITS, {"green", "red"})
    assert (decision.adapter, decision.confidence) == ("blue", 1.0)
    assert (decision.runner_up, decision.margin) == (None, 1.0)


def test_with_all_adapters_disabled_nobody_is_chosen_and_that_is_the_reason():
    decision = decide(evolve(SCORES, out_of_scope=9.0), LABELS, LIMITS, set(LABELS.names))
    assert outcome(decision) == (None, Reason.ALL_DISABLED)
    assert (decision.best, decision.runner_up, decision.confidence, decision.margin) == (None, None, 0.0, 0.0)
    assert (decision.out_of_scope, decision.nearest) == (9.0, NEAREST)


def test_enabled_adapters_without_any_probability_have_no_confidence():
    decision = decide(RouteScores((0.0, 1.0, 0.0), 0.0), LABELS, LIMITS, {"green"})
    assert outcome(decision) == (None, Reason.LOW_CONFIDENCE)
    assert (decision.confidence, decision.margin) == (0.0, 0.0)


def test_a_router_of_one_adapter_has_no_runner_up():
    decision = decide(RouteScores((1.0,), 0.0), LabelMap(("only",)), LIMITS)
    assert (decision.adapter, decision.runner_up, decision.margin) == ("only", None, 1.0)


def test_an_unknown_adapter_cannot_be_disabled():
    with pytest.raises(UsageError, match="unknown adapter 'purple'"):
        decide(SCORES, LABELS, LIMITS, {"purple"})


@given(
    st.lists(st.integers(1, 1000), min_size=3, max_size=3),
    st.sets(st.sampled_from(LABELS.names), max_size=2),
    st.floats(0, 1),
    st.floats(0, 1),
)
def test_the_choice_is_the_likeliest_enabled_adapter_or_nobody(weights, disabled, confidence, out_of_scope):
    scores = RouteScores(tuple(weight / sum(weights) for weight in weights), 0.5)
    decision = decide(scores, LABELS, AbstentionThresholds(confidence, out_of_scope), disabled)
    by_name = dict(zip(LABELS.names, weights, strict=True))
    enabled = {name: weight for name, weight in by_name.items() if name not in disabled}
    assert enabled[decision.best] == max(enabled.values())
    assert decision.confidence == pytest.approx(max(enabled.values()) / sum(enabled.values()))
    assert decision.adapter == (decision.best if decision.reason is Reason.CONFIDENT else None)
    assert (decision.reason is Reason.OUT_OF_SCOPE) == (out_of_scope < 0.5)


@pytest.mark.parametrize(
    ("asked", "limits"),
    [
        (OtherLimits(), LIMITS),
        (OtherLimits(min_confidence=0.0), AbstentionThresholds(0.0, 0.4)),
        (OtherLimits(min_confidence=1.0), AbstentionThresholds(1.0, 0.4)),
        (OtherLimits(max_out_of_scope=0.0), AbstentionThresholds(0.6, 0.0)),
        (OtherLimits(0.5, -inf), AbstentionThresholds(0.5, -inf)),
        (OtherLimits(no_abstain=True), AbstentionThresholds()),
    ],
)
def test_other_limits_replace_the_routers_own_one_by_one(asked, limits):
    assert asked.over(LIMITS) == limits


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"min_confidence": -0.01}, r"min-confidence -0\.01"),
        ({"min_confidence": 1.01}, r"min-confidence 1\.01"),
        ({"min_confidence": nan}, "min-confidence nan"),
        ({"max_out_of_scope": nan}, "max-out-of-scope nan"),
        ({"min_confidence": 0.0, "no_abstain": True}, "no-abstain"),
        ({"max_out_of_scope": 0.0, "no_abstain": True}, "no-abstain"),
    ],
)
def test_limits_that_cannot_be_are_refused(asked, message):
    with pytest.raises(UsageError, match=message):
        OtherLimits(**asked)
