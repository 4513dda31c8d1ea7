from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from attrs import evolve, frozen

from adapters.router.numpy_scorer import NumpyRouterScorer
from application.routing.route_prompts import RoutePrompts, RouteRequest
from domain.errors import MismatchError, UsageError
from domain.features import BaseModel, FeatureSpec, FeatureTap, Matrix
from domain.routing import AbstentionThresholds, Reason
from tests.router_world import SPEC, router_world


@frozen
class LookedUpFeatures:
    """A FeatureExtractor that knows the features of the world's prompts by heart; "strange" is out of scope."""

    base: BaseModel = SPEC.base
    max_tokens: int = 512

    def extract(self, texts: Sequence[str], taps: Sequence[FeatureTap]) -> Matrix:
        assert tuple(taps) == SPEC.taps
        world = router_world()
        known = dict(zip(world.val.texts, world.val.features, strict=True))
        rows: Any = np.stack([known.get(text, world.out_of_scope[0]) for text in texts])
        return rows


def route(*prompts: str, **request: Any) -> list[Any]:
    world = router_world()
    val = world.val
    known = NumpyRouterScorer().score(world.assembled(temperature=1.0), val.features, val.texts, [1] * len(val.texts))
    limits = AbstentionThresholds(0.5, max(each.out_of_scope for each in known))
    router = world.assembled(temperature=1.0, thresholds=limits)
    return RoutePrompts(router, LookedUpFeatures(), NumpyRouterScorer())(RouteRequest(prompts, **request))


def test_each_prompt_goes_to_its_adapter_in_order_and_one_out_of_scope_to_none():
    decisions = route("val blue 12", "strange", "val red 0", nearest=2)
    assert [each.adapter for each in decisions] == ["blue", None, "red"]
    assert [each.reason for each in decisions] == [Reason.CONFIDENT, Reason.OUT_OF_SCOPE, Reason.CONFIDENT]
    assert [len(each.nearest) for each in decisions] == [2, 2, 2]


def test_a_prompt_in_capitals_is_decided_as_in_small_letters():
    (shouted,) = route("VAL BLUE 12")
    assert (shouted,) == tuple(route("val blue 12"))


def test_a_disabled_adapter_is_never_chosen_and_an_unknown_one_is_refused():
    (decision,) = route("val blue 12", disabled=frozenset({"blue"}))
    assert decision.adapter != "blue"
    assert decision.best in {"red", "green"}
    with pytest.raises(UsageError, match="unknown adapter 'violet'"):
        route(disabled=frozenset({"violet"}))  # also where there is nothing to route


def test_no_prompts_give_no_decisions_and_negative_nearest_is_refused():
    assert route() == []
    with pytest.raises(UsageError, match="nearest -1"):
        route("val blue 12", nearest=-1)


@pytest.mark.parametrize(
    ("extractor", "message"),
    [
        (LookedUpFeatures(base=evolve(SPEC.base, fingerprint="e" * 64)), "f{16}.*e{16}"),
        (LookedUpFeatures(base=evolve(SPEC.base, hidden_size=9)), "hidden size 3.*hidden size 9"),
        (LookedUpFeatures(base=evolve(SPEC.base, n_layers=2)), "4 layers.*2 layers"),
        (LookedUpFeatures(max_tokens=64), "token limit differs.*512.*64"),
    ],
)
def test_a_router_of_other_features_is_refused_with_both_sides(extractor, message):
    with pytest.raises(MismatchError, match=message):
        RoutePrompts(router_world().assembled(), extractor, NumpyRouterScorer())


def test_a_renamed_copy_of_the_same_base_model_is_accepted():
    moved = LookedUpFeatures(base=evolve(SPEC.base, name="/elsewhere/tiny"))
    assert RoutePrompts(router_world().assembled(), moved, NumpyRouterScorer())(RouteRequest(("val red 0",)))
    assert FeatureSpec(moved.base, SPEC.layers) != SPEC


def test_a_requests_own_limits_replace_the_routers_and_probabilities_are_told() -> None:
    (decision,) = route("val blue 12", thresholds=AbstentionThresholds(1.0))
    assert (decision.adapter, decision.best, decision.reason) == (None, "blue", Reason.LOW_CONFIDENCE)
    (forced,) = route("strange", thresholds=AbstentionThresholds())
    assert forced.adapter == forced.best
    shares = dict(decision.probabilities)
    assert list(shares) == ["red", "green", "blue"]
    assert shares["blue"] == decision.confidence
    assert sum(shares.values()) == pytest.approx(1.0)
    (masked,) = route("val blue 12", disabled=frozenset({"red"}))
    assert list(dict(masked.probabilities)) == ["green", "blue"]
