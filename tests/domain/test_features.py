from __future__ import annotations

import pytest
from attrs import evolve

from domain.errors import MismatchError, UsageError
from domain.features import BaseModel, FeatureSpec, FeatureTap, Pooling

BASE = BaseModel("here/base", "f" * 64, n_layers=4, hidden_size=8)
SPEC = FeatureSpec(BASE, (0, 4), Pooling.LAST, 9)


def test_features_are_the_layers_one_after_the_other():
    assert SPEC.taps == (FeatureTap(0, Pooling.LAST), FeatureTap(4, Pooling.LAST))
    assert SPEC.n_features == 16
    assert FeatureSpec(BASE, [1], "mean") == FeatureSpec(BASE, (1,), Pooling.MEAN)


@pytest.mark.parametrize(
    ("layers", "message"),
    [
        ((), "non-empty ascending"),
        ((1, 1), "without duplicates"),
        ((2, 1), "ascending"),
        ((-1, 2), r"not all in 0\.\.4"),
        ((5,), r"here/base: layers \[5\] are not all in 0\.\.4"),
    ],
)
def test_layers_that_the_model_does_not_have_are_refused(layers, message):
    with pytest.raises(UsageError, match=message):
        FeatureSpec(BASE, layers)


def test_the_same_features_may_come_from_a_model_of_another_name():
    SPEC.require_same(evolve(SPEC, base=evolve(BASE, name="there", n_layers=5)), mine="router", theirs="data")


@pytest.mark.parametrize(
    ("other", "message"),
    [
        (
            evolve(SPEC, base=evolve(BASE, fingerprint="a" * 64)),
            "base model differs: router has f{16}.*, data has a{16} ",
        ),
        (evolve(SPEC, base=evolve(BASE, hidden_size=9)), r"base model differs: .*size 8\), data has .*size 9\)"),
        (evolve(SPEC, layers=(0, 3)), r"layers differs: router has \[0, 4\], data has \[0, 3\]"),
        (evolve(SPEC, pooling=Pooling.MEAN), "pooling differs: router has last, data has mean"),
        (evolve(SPEC, max_tokens=8), "token limit differs: router has 9, data has 8"),
    ],
)
def test_features_that_differ_are_refused_with_both_sides(other, message):
    with pytest.raises(MismatchError, match=message):
        SPEC.require_same(other, mine="router", theirs="data")
