"""One promise for every RouterCalibrator."""

from __future__ import annotations

import math
from collections.abc import Callable

import attrs
import numpy as np
import pytest

from adapters.in_memory.routers import PlainRouterCalibrator
from adapters.router.numpy_calibrator import MOST_SHIFT, NumpyRouterCalibrator, prior_shift
from adapters.router.numpy_scorer import NumpyRouterScorer
from adapters.router.safetensors_router_store import SafetensorsRouterStore
from application.ports import Calibration, KnownTexts, RouterCalibrator, TrainedRouter
from tests.router_world import RouterWorld, router_card


@pytest.fixture(params=[PlainRouterCalibrator, NumpyRouterCalibrator])
def calibrator(request: pytest.FixtureRequest) -> RouterCalibrator:
    make: Callable[[], RouterCalibrator] = request.param
    return make()


def calibrate(calibrator: RouterCalibrator, world: RouterWorld) -> Calibration:
    return calibrator.calibrate(world.router, world.left_out(), target_error=0.1)


@pytest.mark.parametrize("companions", [True, False])
def test_the_result_is_usable_and_leaves_the_head_alone(calibrator, world, companions):
    if not companions:  # neither background nor prompts of no adapter
        none = KnownTexts(np.zeros((0, 6), np.float32), (), (), ())
        world = attrs.evolve(world, router=attrs.evolve(world.router, background=none, out_of_scope=none))
    before = {name: tensor.copy() for name, tensor in world.router.tensors.items()}
    result = calibrate(calibrator, world)
    assert 0 < result.temperature < math.inf
    assert not math.isnan(result.thresholds.min_confidence)
    assert not math.isnan(result.thresholds.max_out_of_scope)
    assert all(name.startswith("bank.") for name in result.tensors)
    for name, tensor in before.items():
        np.testing.assert_array_equal(world.router.tensors[name], tensor)


def test_bank_rows_are_known_rows_with_their_labels(calibrator, world):
    result = calibrate(calibrator, world)
    label_of = dict(zip(world.train.texts, world.train.labels, strict=True))
    assert result.bank_texts
    assert [label_of[text] for text in result.bank_texts] == np.asarray(result.tensors["bank.labels"]).tolist()


def test_the_same_arguments_give_the_same_bits(calibrator, world):
    one, two = calibrate(calibrator, world), calibrate(calibrator, world)
    assert (one.temperature, one.thresholds, one.trade_off, one.bank_texts) == (
        two.temperature,
        two.thresholds,
        two.trade_off,
        two.bank_texts,
    )
    assert all(np.array_equal(one.tensors[name], two.tensors[name]) for name in one.tensors)


def test_the_assembled_router_can_be_saved_and_scored(calibrator, world, tmp_path):
    result = calibrate(calibrator, world)
    card = router_card(temperature=result.temperature, thresholds=result.thresholds)
    router = TrainedRouter(card, {**world.router.tensors, **result.tensors}, result.bank_texts)
    store = SafetensorsRouterStore()
    loaded = store.load(store.save(router, tmp_path / "r.safetensors"))
    scores = NumpyRouterScorer().score(loaded, world.val.features, world.val.texts, [1] * 15, nearest=1)
    assert [int(np.argmax(each.probabilities)) for each in scores] == list(world.val.labels)
    assert all(each.nearest[0].text in result.bank_texts for each in scores)


def test_labels_of_few_rows_get_a_higher_bias_and_others_none(world):
    counts = np.array([80.0, 80.0, 5.0])
    shift = prior_shift(counts)
    assert shift[2] - shift[0] == pytest.approx(np.log(16))
    assert shift[-1] == 0
    assert not prior_shift(np.array([7.0, 7.0])).any()
    assert abs(prior_shift(np.array([5000.0, 1.0]))).max() == MOST_SHIFT
    folds = [
        attrs.evolve(fold, labels=tuple(0 if label == 2 and n else label for n, label in enumerate(fold.labels)))
        for fold in world.left_out()
    ]
    result = NumpyRouterCalibrator().calibrate(world.router, folds, target_error=0.1)
    moved = np.asarray(result.tensors["head.bias"]) - world.router.tensors["head.bias"]
    assert moved[2] > max(moved[0], moved[1], moved[3])
