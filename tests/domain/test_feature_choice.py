"""Which layers are tried, and how deep the base model must be loaded for them."""

import pytest

from domain.feature_choice import FeatureChoice, deepest_layer, distinct_taps, feature_candidates
from domain.features import Pooling


@pytest.mark.parametrize(
    ("n_layers", "layers", "deepest"), [(30, None, 10), (6, None, 6), (36, None, 12), (30, (1, 20), 20)]
)
def test_nothing_above_the_deepest_candidate_is_asked_for(n_layers, layers, deepest):
    assert deepest_layer(n_layers, layers, None) == deepest
    taps = distinct_taps(feature_candidates(n_layers, layers, None))
    assert max(tap.layer for tap in taps) == deepest


@pytest.mark.parametrize("n_layers", [1, 2, 3, 6, 12, 13, 30, 36, 80])
def test_candidates_lie_in_the_model_cheapest_first_and_shallow_in_deep_models(n_layers: int) -> None:
    found = feature_candidates(n_layers, None, None)
    assert len(set(found)) == len(found) >= 2
    assert [c.cost for c in found] == sorted(c.cost for c in found)
    for choice in found:
        assert list(choice.layers) == sorted(set(choice.layers))
        assert choice.layers[0] >= 0
        assert choice.layers[-1] <= (n_layers if n_layers <= 12 else n_layers * 0.4)
    taps = distinct_taps(found)
    assert set(taps) == {tap for choice in found for tap in choice.taps}
    assert len(set(taps)) == len(taps)


def test_the_candidates_of_the_embedded_base_are_those_that_were_measured() -> None:
    assert [str(choice) for choice in feature_candidates(30, None, Pooling.MEAN)] == [
        "layers 7, mean pooling",
        "layers 1+7, mean pooling",
        "layers 10, mean pooling",
        "layers 7+10, mean pooling",
        "layers 1+7+10, mean pooling",
        "layers 1+4+7+10, mean pooling",
    ]


def test_what_the_user_fixed_stays_fixed() -> None:
    assert feature_candidates(30, (2, 5), Pooling.LAST) == (FeatureChoice((2, 5), Pooling.LAST),)
    assert {c.layers for c in feature_candidates(30, (2, 5), None)} == {(2, 5)}
    assert {c.pooling for c in feature_candidates(30, None, Pooling.LAST)} == {Pooling.LAST}


def test_the_last_token_is_tried_once_with_all_layers_where_the_user_fixed_no_pooling() -> None:
    free, mean = feature_candidates(30, None, None), feature_candidates(30, None, Pooling.MEAN)
    assert set(free) - set(mean) == {FeatureChoice((1, 4, 7, 10), Pooling.LAST)}
