"""One promise for every RouterCalibrator."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest

from adapters.in_memory.routers import PlainRouterCalibrator
from adapters.router.numpy_calibrator import NumpyRouterCalibrator
from adapters.router.numpy_scorer import NumpyRouterScorer
from adapters.router.safetensors_router_store import SafetensorsRouterStore
from application.ports import RouterCalibrator, TrainedRouter
from tests.router_world import RouterWorld, router_card


@pytest.fixture(params=[PlainRouterCalibrator, NumpyRouterCalibrator])
def calibrator(request: pytest.FixtureRequest) -> RouterCalibrator:
    make: Callable[[], RouterCalibrator] = request.param
    return make()


def calibrate(calibrator: RouterCalibrator, world: RouterWorld, strangers: bool = False):
    return calibrator.calibrate(
        world.router, world.train, world.val, target_error=0.1, out_of_scope=world.strangers if strangers else None
    )


@pytest.mark.parametrize("strangers", [False, True])
def test_the_result_is_usable_and_leaves_the_head_alone(calibrator, world, strangers):
    before = {name: tensor.copy() for name, tensor in world.router.tensors.items()}
    result = calibrate(calibrator, world, strangers)
    assert 0 < result.temperature < math.inf
    assert not math.isnan(result.thresholds.min_confidence)
    assert not math.isnan(result.thresholds.max_out_of_scope)
    assert not set(result.tensors) & set(world.router.tensors)
    assert all(name.startswith("bank.") for name in result.tensors)
    for name, tensor in before.items():
        np.testing.assert_array_equal(world.router.tensors[name], tensor)


def test_bank_rows_are_known_rows_with_their_labels(calibrator, world):
    result = calibrate(calibrator, world)
    texts, labels = (*world.train.texts, *world.val.texts), (*world.train.labels, *world.val.labels)
    label_of = dict(zip(texts, labels, strict=True))
    assert result.bank_texts
    assert [label_of[text] for text in result.bank_texts] == np.asarray(result.tensors["bank.labels"]).tolist()


def test_the_same_arguments_give_the_same_bits(calibrator, world):
    one, two = calibrate(calibrator, world, True), calibrate(calibrator, world, True)
    assert (one.temperature, one.thresholds, one.bank_texts) == (two.temperature, two.thresholds, two.bank_texts)
    assert all(np.array_equal(one.tensors[name], two.tensors[name]) for name in one.tensors)


def test_the_assembled_router_can_be_saved_and_scored(calibrator, world, tmp_path):
    result = calibrate(calibrator, world)
    card = router_card(temperature=result.temperature, thresholds=result.thresholds)
    router = TrainedRouter(card, {**world.router.tensors, **result.tensors}, result.bank_texts)
    store = SafetensorsRouterStore()
    loaded = store.load(store.save(router, tmp_path / "r.safetensors"))
    scores = NumpyRouterScorer().score(loaded, world.val.features, nearest=1)
    assert [int(np.argmax(each.probabilities)) for each in scores] == list(world.val.labels)
    assert all(each.nearest[0].text in result.bank_texts for each in scores)
