from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.errors import UsageError
from domain.split import largest_remainder_split, stratified_folds

COUNTS = st.lists(st.integers(0, 400), max_size=8)
SHARES = st.integers(0, 100).map(lambda percent: percent / 100)


@pytest.mark.parametrize(
    ("counts", "share", "train"),
    [
        ((1, 1, 1), 0.8, (1, 1, 0)),
        ((200, 200, 200), 0.8, (160, 160, 160)),
        ((100, 100, 100), 0.8, (80, 80, 80)),
        ((3, 3, 3), 0.7, (2, 2, 2)),
        ((5, 5), 0.5, (3, 2)),
        ((10,), 0.0, (0,)),
        ((10,), 1.0, (10,)),
        ((), 0.5, ()),
    ],
)
def test_known_splits(counts, share, train):
    assert largest_remainder_split(counts, share) == train


@given(COUNTS, SHARES)
def test_the_whole_is_rounded_and_every_part_is_within_one_of_its_share(counts, share):
    train = largest_remainder_split(counts, share)
    exact = Fraction(str(share)) * sum(counts)
    assert sum(train) == int(exact + Fraction(1, 2))
    for part, count in zip(train, counts, strict=True):
        assert 0 <= part <= count
        assert abs(part - Fraction(str(share)) * count) < 1


@pytest.mark.parametrize("share", [-0.1, 1.1, float("nan")])
def test_refuses_a_share_that_is_none(share):
    with pytest.raises(UsageError, match="train/val split"):
        largest_remainder_split((1,), share)


def test_refuses_negative_counts():
    with pytest.raises(UsageError, match="negative"):
        largest_remainder_split((1, -1), 0.5)


@given(st.lists(st.integers(0, 4), max_size=60), st.integers(2, 5), st.integers(1, 50))
def test_folds_are_disjoint_stratified_and_limited(labels, folds, limit):
    dealt = stratified_folds(labels, folds, limit)
    rows = [row for fold in dealt for row in fold]
    assert len(set(rows)) == len(rows)
    shared = {label for label in labels if labels.count(label) > 1}
    assert {labels[row] for row in rows} == shared
    assert len(dealt) == (min(folds, *map(labels.count, shared)) if shared else 0)
    for label in shared:
        per_fold = [sum(labels[row] == label for row in fold) for fold in dealt]
        assert min(per_fold) >= 1
        assert max(per_fold) - min(per_fold) <= 1
        assert sum(per_fold) == min(labels.count(label), max(limit // len(shared), len(dealt)))


@pytest.mark.parametrize("folds", [0, 1])
def test_fewer_than_two_folds_are_none(folds):
    assert stratified_folds([0, 0, 1, 1], folds, 10) == []
