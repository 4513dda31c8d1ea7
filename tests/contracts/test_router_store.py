"""One promise for every RouterStore."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import attrs
import numpy as np
import pytest

from adapters.in_memory.routers import InMemoryRouterStore
from adapters.router.safetensors_router_store import SafetensorsRouterStore
from application.ports import RouterStore, TrainedRouter
from domain.errors import MissingFileError
from domain.routing import AbstentionThresholds


@pytest.fixture(params=[InMemoryRouterStore, SafetensorsRouterStore])
def store(request: pytest.FixtureRequest) -> RouterStore:
    make: Callable[[], RouterStore] = request.param
    return make()


def assert_same(found: TrainedRouter, saved: TrainedRouter) -> None:
    assert (found.card, found.bank_texts) == (saved.card, saved.bank_texts)
    assert set(found.tensors) == set(saved.tensors)
    for name, tensor in saved.tensors.items():
        assert found.tensors[name].dtype == tensor.dtype
        np.testing.assert_array_equal(found.tensors[name], tensor)


def test_load_returns_exactly_what_save_was_given(store, world, tmp_path):
    router = world.assembled()
    assert_same(store.load(store.save(router, tmp_path / "r.safetensors")), router)


def test_unlimited_thresholds_unicode_and_exact_floats_survive(store, world, tmp_path):
    router = world.assembled(
        thresholds=AbstentionThresholds(), temperature=0.1 + 0.2, val_accuracy=1 / 3, dataset="routing-café-東京"
    )
    texts = ('a "quoted"\nline', "\u2028 \x00 é 🦜", *router.bank_texts[2:])
    router = attrs.evolve(router, bank_texts=texts)
    assert_same(store.load(store.save(router, tmp_path / "r.safetensors")), router)


def test_a_second_save_replaces_the_first(store, world, tmp_path):
    path = store.save(world.assembled(), tmp_path / "r.safetensors")
    assert store.save(world.assembled(seed=43), tmp_path / "r.safetensors") == path
    assert store.load(path).card.seed == 43


def test_what_a_save_replaces_is_known_before_and_asking_touches_nothing(store, world, tmp_path):
    target = tmp_path / "r.safetensors"
    store.check_target(target)
    assert store.replaced_by(target) == ()
    assert list(tmp_path.iterdir()) == []
    store.save(world.assembled(), target)
    store.check_target(target)
    assert store.replaced_by(target) == (target,)
    assert store.load(target).card.seed == world.assembled().card.seed


def test_the_version_tells_routers_apart_and_does_not_depend_on_the_path(store, world, tmp_path):
    first = store.load(store.save(world.assembled(), tmp_path / "a.safetensors")).sha256
    again = store.load(store.save(world.assembled(), tmp_path / "b.safetensors")).sha256
    other = store.load(store.save(world.assembled(seed=1), tmp_path / "c.safetensors")).sha256
    changed = world.assembled()
    bias = changed.tensors["head.bias"].copy()
    bias[0] += 1
    changed = attrs.evolve(changed, tensors={**changed.tensors, "head.bias": bias})
    assert first is not None
    assert len(first) == 64
    assert first == again
    assert len({first, other, store.load(store.save(changed, tmp_path / "d.safetensors")).sha256}) == 3


def test_what_was_saved_does_not_follow_later_changes_of_the_arrays(store, world, tmp_path):
    router = world.assembled()
    bias = router.tensors["head.bias"].copy()
    path = store.save(attrs.evolve(router, tensors={**router.tensors, "head.bias": bias}), tmp_path / "r.safetensors")
    bias += 100
    np.testing.assert_array_equal(store.load(path).tensors["head.bias"], router.tensors["head.bias"])


def test_nothing_there_is_a_missing_file_that_is_named(store, tmp_path: Path):
    with pytest.raises(MissingFileError, match=r"absent\.safetensors"):
        store.load(tmp_path / "absent.safetensors")
