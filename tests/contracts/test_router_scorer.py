"""One promise for every RouterScorer."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from adapters.in_memory.routers import PlainRouterScorer
from adapters.router.numpy_scorer import NumpyRouterScorer
from application.ports import RouterScorer
from domain.errors import MismatchError


@pytest.fixture(params=[PlainRouterScorer, NumpyRouterScorer])
def scorer(request: pytest.FixtureRequest) -> RouterScorer:
    make: Callable[[], RouterScorer] = request.param
    return make()


def test_probabilities_are_a_distribution_that_favours_the_right_label(scorer, world):
    scores = scorer.score(world.assembled(), world.val.features)
    for each, label in zip(scores, world.val.labels, strict=True):
        assert sum(each.probabilities) == pytest.approx(1.0)
        assert min(each.probabilities) >= 0
        assert np.argmax(each.probabilities) == label


def test_a_higher_temperature_flattens_without_reordering(scorer, world):
    cold = scorer.score(world.assembled(temperature=1.0), world.val.features)
    hot = scorer.score(world.assembled(temperature=4.0), world.val.features)
    for before, after in zip(cold, hot, strict=True):
        assert max(after.probabilities) < max(before.probabilities)
        assert np.argmax(after.probabilities) == np.argmax(before.probabilities)


def test_a_row_scores_the_same_alone_as_in_a_batch(scorer, world):
    batch = scorer.score(world.assembled(), world.val.features, nearest=2)
    for i, together in enumerate(batch):
        (alone,) = scorer.score(world.assembled(), world.val.features[i : i + 1], nearest=2)
        assert alone.probabilities == pytest.approx(together.probabilities, rel=1e-5)
        assert alone.out_of_scope == pytest.approx(together.out_of_scope, abs=1e-5)
        assert [near.text for near in alone.nearest] == [near.text for near in together.nearest]


def test_strangers_score_higher_than_known_prompts(scorer, world):
    known = scorer.score(world.assembled(), world.val.features)
    strange = scorer.score(world.assembled(), world.strangers)
    assert min(each.out_of_scope for each in strange) > max(each.out_of_scope for each in known)


def test_the_nearest_prompts_come_nearest_first_with_their_adapter(scorer, world):
    scores = scorer.score(world.assembled(), world.train.features, nearest=3)
    for each, text, label in zip(scores, world.train.texts, world.train.labels, strict=True):
        assert len(each.nearest) == 3
        assert each.nearest[0].text == text
        assert each.nearest[0].similarity == pytest.approx(1.0, abs=1e-3)
        assert each.nearest[0].adapter == world.router.labels.name_of(label)
        values = [near.similarity for near in each.nearest]
        assert values == sorted(values, reverse=True)


def test_no_more_nearest_prompts_than_there_are_and_none_unless_asked(scorer, world):
    (row,) = scorer.score(world.assembled(), world.val.features[:1], nearest=1000)
    assert len(row.nearest) == len(world.train.texts)
    assert scorer.score(world.assembled(), world.val.features[:1])[0].nearest == ()


def test_no_rows_give_no_scores(scorer, world):
    assert scorer.score(world.assembled(), np.zeros((0, 6), np.float32)) == []


def test_another_number_of_features_is_refused_with_both_numbers(scorer, world):
    with pytest.raises(MismatchError, match=r"6 numbers a row, got .*5"):
        scorer.score(world.assembled(), np.zeros((2, 5), np.float32))


def test_all_scorers_agree(world):
    plain = PlainRouterScorer().score(world.assembled(), world.val.features, nearest=4)
    fast = NumpyRouterScorer().score(world.assembled(), world.val.features, nearest=4)
    for a, b in zip(plain, fast, strict=True):
        assert a.probabilities == pytest.approx(b.probabilities, rel=1e-4)
        assert a.out_of_scope == pytest.approx(b.out_of_scope, abs=1e-5)
        assert [near.text for near in a.nearest] == [near.text for near in b.nearest]
