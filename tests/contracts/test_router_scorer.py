"""One promise for every RouterScorer."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from attrs import evolve

from adapters.in_memory.routers import PlainRouterScorer
from adapters.router.numpy_scorer import NumpyRouterScorer
from application.ports import RouterScorer
from domain.errors import MismatchError
from domain.routing import RouteScores


@pytest.fixture(params=[PlainRouterScorer, NumpyRouterScorer])
def scorer(request: pytest.FixtureRequest) -> RouterScorer:
    make: Callable[[], RouterScorer] = request.param
    return make()


def ones(scorer: RouterScorer, router: Any, features: Any, nearest: int = 0) -> list[RouteScores]:
    """Score prompts of one piece each."""
    return scorer.score(router, features, ["x"] * len(features), [1] * len(features), nearest=nearest)


def test_probabilities_are_a_distribution_that_favours_the_right_label(scorer, world):
    scores = ones(scorer, world.assembled(), world.val.features)
    for each, label in zip(scores, world.val.labels, strict=True):
        assert sum(each.probabilities) == pytest.approx(1.0)
        assert min(each.probabilities) >= 0
        assert np.argmax(each.probabilities) == label


def test_a_higher_temperature_flattens_without_reordering(scorer, world):
    cold = ones(scorer, world.assembled(temperature=1.0), world.val.features)
    hot = ones(scorer, world.assembled(temperature=4.0), world.val.features)
    for before, after in zip(cold, hot, strict=True):
        assert max(after.probabilities) < max(before.probabilities)
        assert np.argmax(after.probabilities) == np.argmax(before.probabilities)


def test_a_row_scores_the_same_alone_as_in_a_batch(scorer, world):
    batch = ones(scorer, world.assembled(), world.val.features, nearest=2)
    for i, together in enumerate(batch):
        (alone,) = ones(scorer, world.assembled(), world.val.features[i : i + 1], nearest=2)
        assert alone.probabilities == pytest.approx(together.probabilities, rel=1e-5)
        assert alone.out_of_scope == pytest.approx(together.out_of_scope, abs=1e-5)
        assert [near.text for near in alone.nearest] == [near.text for near in together.nearest]


def test_out_of_scope_prompts_score_higher_than_known_prompts(scorer, world):
    known = ones(scorer, world.assembled(), world.val.features)
    strange = ones(scorer, world.assembled(), world.out_of_scope)
    assert min(each.out_of_scope for each in strange) > max(each.out_of_scope for each in known)


def test_the_nearest_prompts_come_nearest_first_with_their_adapter(scorer, world):
    scores = ones(scorer, world.assembled(), world.train.features, nearest=3)
    for each, text, label in zip(scores, world.train.texts, world.train.labels, strict=True):
        assert len(each.nearest) == 3
        assert each.nearest[0].text == text
        assert each.nearest[0].similarity == pytest.approx(1.0, abs=1e-3)
        assert each.nearest[0].adapter == world.router.labels.name_of(label)
        values = [near.similarity for near in each.nearest]
        assert values == sorted(values, reverse=True)


def test_no_more_nearest_prompts_than_there_are_and_none_unless_asked(scorer, world):
    (row,) = ones(scorer, world.assembled(), world.val.features[:1], nearest=1000)
    assert len(row.nearest) == len(world.train.texts)
    assert ones(scorer, world.assembled(), world.val.features[:1])[0].nearest == ()


def test_a_prompt_that_an_adapter_has_several_times_is_shown_once(scorer, world):
    router = world.assembled()
    others = [label != 0 for label in router.tensors["bank.labels"]]
    texts = tuple(text if other else "x" for text, other in zip(router.bank_texts, others, strict=True))
    (row,) = ones(scorer, evolve(router, bank_texts=texts), world.val.features[:1], nearest=1000)
    assert [near.text for near in row.nearest].count("x") == 1
    assert len(row.nearest) == 1 + sum(others)


def test_no_rows_give_no_scores(scorer, world):
    assert ones(scorer, world.assembled(), np.zeros((0, 6), np.float32)) == []


def test_another_number_of_features_is_refused_with_both_numbers(scorer, world):
    with pytest.raises(MismatchError, match=r"6 numbers a row, got .*5"):
        ones(scorer, world.assembled(), np.zeros((2, 5), np.float32))


def test_all_scorers_agree(world):
    plain = ones(PlainRouterScorer(), world.assembled(), world.val.features, nearest=4)
    fast = ones(NumpyRouterScorer(), world.assembled(), world.val.features, nearest=4)
    for a, b in zip(plain, fast, strict=True):
        assert a.probabilities == pytest.approx(b.probabilities, rel=1e-4)
        assert a.out_of_scope == pytest.approx(b.out_of_scope, abs=1e-5)
        assert [near.text for near in a.nearest] == [near.text for near in b.nearest]


def test_background_beside_a_prompt_does_not_change_what_is_said_of_it(scorer, world):
    router = world.assembled()
    for row in world.val.features[::4]:
        (alone,) = ones(scorer, router, row[None], nearest=2)
        for at in range(3):
            pieces = [*world.background[:2]]
            pieces.insert(at, row)
            (beside,) = scorer.score(router, np.array(pieces), ["x"] * 3, [3], nearest=2)
            assert beside.probabilities == pytest.approx(alone.probabilities, rel=1e-5)
            assert beside.out_of_scope == pytest.approx(alone.out_of_scope, abs=1e-5)
            assert [near.text for near in beside.nearest] == [near.text for near in alone.nearest]
            assert (beside.deciding, alone.deciding) == (at, 0)


def test_pieces_of_two_labels_lower_the_confidence_and_the_stronger_one_decides(scorer, world):
    router = world.assembled()
    red, green = world.val.features[0], world.val.features[5]
    (one,), (two,) = ones(scorer, router, red[None]), ones(scorer, router, green[None])
    (both,) = scorer.score(router, np.array([red, green]), ["x"] * 2, [2])
    assert max(both.probabilities) < max(*one.probabilities, *two.probabilities)
    assert both.probabilities[2] < min(both.probabilities[:2])


def test_a_prompt_of_nothing_but_background_is_scored_by_the_piece_that_is_least_so(scorer, world):
    router = world.assembled()
    (made,) = scorer.score(router, world.background[:3], ["x"] * 3, [3])
    singles = ones(scorer, router, world.background[:3])
    assert sum(made.probabilities) == pytest.approx(1.0)
    assert made.probabilities == pytest.approx(singles[made.deciding].probabilities, rel=1e-5)
    assert made.out_of_scope == pytest.approx(singles[made.deciding].out_of_scope, abs=1e-5)


def test_prompts_of_several_sizes_share_a_batch_and_do_not_mix(scorer, world):
    router = world.assembled()
    rows = np.concatenate([world.val.features[:6], world.background])
    sizes, start, alone = [3, 1, 4, 2], 0, []
    for size in sizes:
        alone += scorer.score(router, rows[start : start + size], ["x"] * size, [size], nearest=1)
        start += size
    for one, other in zip(scorer.score(router, rows, ["x"] * 10, sizes, nearest=1), alone, strict=True):
        assert one.probabilities == pytest.approx(other.probabilities, rel=1e-5)
        assert one.out_of_scope == pytest.approx(other.out_of_scope, abs=1e-5)
        assert (one.deciding, one.nearest[0].text) == (other.deciding, other.nearest[0].text)
