"""Who answers, for each kind of fallback: when the router abstains, when it fails, when its choice is missing."""

from __future__ import annotations

import pytest

from domain.answer_policy import (
    AnswerPolicy,
    Fallback,
    FallbackKind,
    WhoAnswers,
    check_available,
    explain,
    who_answers,
    who_answers_without_choice,
)
from domain.errors import DataRejectedError, LoraAdapterError, UsageError
from domain.labels import LabelMap
from domain.routing import AbstentionThresholds, RouteScores, decide

LABELS = LabelMap(("red", "green"))
LIMITS = AbstentionThresholds(0.6, 0.4)
CHOSEN = decide(RouteScores((0.75, 0.25), 0.0), LABELS, LIMITS)
UNSURE = decide(RouteScores((0.5, 0.5), 0.0), LABELS, LIMITS)
STRANGE = decide(RouteScores((0.75, 0.25), 0.5), LABELS, LIMITS)
NOBODY = decide(RouteScores((0.75, 0.25), 0.0), LABELS, LIMITS, set(LABELS.names))
ERROR = Fallback.parse("error")
GREEN = Fallback.parse("green")
BASE = Fallback.parse("base")


def test_what_an_option_says_is_a_kind_of_fallback():
    assert Fallback.parse(None) == Fallback(FallbackKind.STRICT)
    assert (Fallback(FallbackKind.BASE), Fallback(FallbackKind.ERROR)) == (BASE, ERROR)
    assert Fallback(FallbackKind.ADAPTER, "green") == GREEN
    assert [each.stands_in for each in (Fallback(), BASE, GREEN, ERROR)] == [False, True, True, False]
    with pytest.raises(UsageError, match="not allowed"):
        Fallback.parse("../red")


@pytest.mark.parametrize(
    ("decision", "why"),
    [
        (UNSURE, "unsure: confidence 0.500 for red below 0.600"),
        (STRANGE, "out of scope: score 0.500 above 0.400"),
        (NOBODY, "every adapter is disabled"),
    ],
)
@pytest.mark.parametrize(("fallback", "adapter"), [(Fallback(), None), (BASE, None), (GREEN, "green")])
def test_where_the_router_abstains_the_fallback_answers_and_says_why(decision, why, fallback, adapter):
    assert explain(decision) == why
    assert who_answers(decision, LABELS.names, fallback) == WhoAnswers(adapter, why)
    assert who_answers_without_choice(why, fallback) == WhoAnswers(adapter, why)
    with pytest.raises(DataRejectedError, match=f"chose no adapter: {why}"):
        who_answers(decision, LABELS.names, ERROR)


@pytest.mark.parametrize("fallback", [Fallback(), BASE, GREEN, ERROR])
def test_the_chosen_adapter_answers_where_it_is_there(fallback):
    assert who_answers(CHOSEN, ("red",), fallback) == WhoAnswers("red")


def test_a_missing_choice_is_answered_for_by_those_who_stand_in_and_an_error_else():
    for fallback, adapter in ((BASE, None), (GREEN, "green")):
        assert who_answers(CHOSEN, ("green",), fallback) == WhoAnswers(adapter, "LoRA adapter red was not given")
        refused = who_answers(CHOSEN, ("green",), fallback, {"red": "zero"})
        assert refused == WhoAnswers(adapter, "LoRA adapter red is refused: zero")
    for fallback in (Fallback(), ERROR):
        with pytest.raises(LoraAdapterError, match="red was not given"):
            who_answers(CHOSEN, ("green",), fallback)


@pytest.mark.parametrize(
    ("available", "policy"),
    [
        (("red", "green"), AnswerPolicy()),
        (("red",), AnswerPolicy(disabled=frozenset({"green"}))),
        ((), AnswerPolicy(disabled=frozenset({"red", "green"}))),
        ((), AnswerPolicy(BASE)),
        (("green",), AnswerPolicy(GREEN)),
        (("other", "red", "green"), AnswerPolicy(Fallback.parse("other"))),
    ],
)
def test_everybody_whom_the_router_can_ask_for_is_there(available, policy):
    check_available(LABELS, available, policy)


@pytest.mark.parametrize(
    ("available", "policy", "error", "message"),
    [
        ((), AnswerPolicy(), UsageError, "no LoRA adapter was given"),
        ((), AnswerPolicy(ERROR), UsageError, "no LoRA adapter was given"),
        (("red",), AnswerPolicy(), LoraAdapterError, "no LoRA adapter for green, .*given: red"),
        (("other",), AnswerPolicy(ERROR), LoraAdapterError, "for red, green, .*given: other"),
        (("red",), AnswerPolicy(GREEN), UsageError, "'green' is not one of .*given: red; also"),
        ((), AnswerPolicy(GREEN), UsageError, "'green' is not one of .*given: none; also"),
        (("red", "green"), AnswerPolicy(GREEN, frozenset({"green"})), UsageError, "'green' is disabled"),
        (("red", "green"), AnswerPolicy(disabled=frozenset({"blue"})), UsageError, "unknown adapter 'blue'"),
    ],
)
def test_who_is_missing_is_known_before_anything_is_answered(available, policy, error, message):
    with pytest.raises(error, match=message):
        check_available(LABELS, available, policy)
