from __future__ import annotations

from domain.labels import LabelMap
from domain.routing import AbstentionThresholds, RouteScores, RoutingDecision, decide
from domain.stickiness import ServedReason, SessionDecision, settle

LABELS = LabelMap(("red", "green", "blue"))


def decision(*probabilities: float, strange: float = 0.0) -> RoutingDecision:
    return decide(RouteScores(probabilities, strange), LABELS, AbstentionThresholds(0.4, 0.5))


def settled(one: RoutingDecision, held: str | None, **options: bool) -> tuple[str | None, str, str]:
    found = settle(one, held, **options)
    return found.adapter, found.reason, found.session


def test_the_first_turn_is_the_routers() -> None:
    assert settled(decision(0.7, 0.2, 0.1), None) == ("red", "confident", "initialize")
    assert settled(decision(0.35, 0.33, 0.32), None) == (None, "low_confidence", "initialize")
    assert settled(decision(0.7, 0.2, 0.1, strange=1.0), None) == (None, "out_of_scope", "initialize")


def test_an_uncertain_or_strange_turn_keeps_the_present_adapter() -> None:
    for unsure in (decision(0.35, 0.33, 0.32), decision(0.9, 0.05, 0.05, strange=1.0)):
        assert settled(unsure, "blue") == ("blue", ServedReason.STICKY, SessionDecision.RETAIN)


def test_a_change_of_subject_switches_beyond_the_margin_only() -> None:
    assert settled(decision(0.55, 0.05, 0.40), "blue") == ("blue", "sticky", "retain")
    assert settled(decision(0.70, 0.05, 0.25), "blue") == ("red", "confident", "switch")
    assert settled(decision(0.70, 0.05, 0.25), "red") == ("red", "confident", "retain")


def test_a_difference_of_exactly_the_margin_keeps_the_present_adapter() -> None:
    one = decision(0.625, 0.0, 0.375)  # exact in binary
    assert settle(one, "blue", margin=0.25).adapter == "blue"
    assert settle(one, "blue", margin=0.249).adapter == "red"


def test_a_turn_too_short_to_stand_alone_keeps_the_present_adapter() -> None:
    assert settled(decision(0.9, 0.05, 0.05), "blue", short=True) == ("blue", "sticky", "retain")
    assert settled(decision(0.9, 0.05, 0.05), None, short=True) == ("red", "confident", "initialize")


def test_a_held_adapter_that_the_request_ruled_out_has_no_share() -> None:
    masked = decide(RouteScores((0.5, 0.1, 0.4), 0.0), LABELS, AbstentionThresholds(), frozenset({"blue"}))
    assert settled(masked, "blue")[0] == "red"
