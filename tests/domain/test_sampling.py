"""Uniform sampling: who is drawn, in which order, and that a seed keeps its meaning."""

from collections import Counter
from itertools import pairwise, takewhile

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from domain.errors import UsageError
from domain.sampling import reservoir_schedule, seeded, shuffle, shuffled_range


def reservoir(size, length, seed):
    held = {}
    for index, slot in takewhile(lambda entry: entry[0] < length, reservoir_schedule(size, seeded(seed))):
        held[slot] = index
    return held


def chi_square(counts, expected):
    return sum((count - expected) ** 2 / expected for count in counts)


@given(size=st.integers(1, 20), length=st.integers(0, 200), seed=st.integers())
@settings(deadline=None)
def test_a_reservoir_holds_distinct_items_and_all_of_a_short_stream(size, length, seed):
    held = reservoir(size, length, seed)
    assert len(held) == len(set(held.values())) == min(size, length)
    assert set(held) == set(range(min(size, length)))


@given(size=st.integers(1, 20), seed=st.integers())
@settings(deadline=None)
def test_the_schedule_ascends_without_end(size, seed):
    schedule = reservoir_schedule(size, seeded(seed))
    entries = [next(schedule) for _ in range(3 * size + 20)]
    assert all(one < other for (one, _), (other, _) in pairwise(entries))
    assert all(0 <= slot < size for _, slot in entries)


def test_a_reservoir_without_places_is_refused():
    with pytest.raises(UsageError):
        next(reservoir_schedule(0, seeded(0)))


@pytest.mark.parametrize(("size", "length"), [(1, 20), (5, 20), (19, 20)])
def test_every_item_is_held_equally_often(size, length):
    n_seeds = 4000
    counts = Counter(item for seed in range(n_seeds) for item in reservoir(size, length, seed).values())
    expected = n_seeds * size / length
    # Items of one reservoir exclude each other, which shrinks the variance by (length - size) / (length - 1).
    value = chi_square([counts[item] for item in range(length)], expected) * (length - 1) / (length - size)
    assert value < 43.8  # 0.999 quantile at 19 degrees of freedom
    assert value > 5  # nor suspiciously even: 0.001 quantile is 5.4 for independent counts


def test_long_streams_are_skipped_over_quickly():
    entries = takewhile(lambda entry: entry[0] < 10**9, reservoir_schedule(100, seeded(1)))
    n_entries = sum(1 for _ in entries)
    assert 1200 < n_entries < 2200  # expected 100 * (1 + ln(10**9 / 100)) = 1712


@pytest.mark.parametrize("draws", [[0.0] * 50, [1 - 2**-53] * 50])
def test_extreme_random_numbers_do_no_harm(draws):
    class Extreme:
        values = iter(draws)

        def random(self):
            return next(self.values)

    schedule = reservoir_schedule(3, Extreme())
    indices = [next(schedule)[0] for _ in range(10)]
    assert all(one < other for one, other in pairwise(indices))


def test_shuffling_gives_every_order_equally_often():
    counts = Counter()
    for seed in range(6000):
        items = [0, 1, 2]
        shuffle(items, seeded(seed))
        counts[tuple(items)] += 1
    assert len(counts) == 6
    assert chi_square(counts.values(), 1000) < 20.5  # 0.999 quantile at 5 degrees of freedom


@given(size=st.integers(0, 300), key=st.text(max_size=5))
@settings(deadline=None, max_examples=60)
def test_a_shuffled_range_is_a_permutation(size, key):
    assert sorted(shuffled_range(size, key)) == list(range(size))


def test_a_shuffled_range_puts_every_number_everywhere_equally_often():
    size, n_keys = 12, 1200
    counts = Counter((place, n) for key in range(n_keys) for place, n in enumerate(shuffled_range(size, str(key))))
    value = chi_square([counts[place, n] for place in range(size) for n in range(size)], n_keys / size)
    assert value < 176  # 0.999 quantile at 11 * 11 degrees of freedom


def test_a_seed_keeps_its_meaning():
    items = list(range(8))
    shuffle(items, seeded(42, "draw", "calendar"))
    assert items == [4, 2, 1, 0, 5, 3, 6, 7]
    assert list(shuffled_range(8, "42")) == [4, 3, 2, 0, 1, 7, 6, 5]
    schedule = reservoir_schedule(2, seeded(42, "draw", "calendar"))
    assert [next(schedule) for _ in range(6)] == [(0, 0), (1, 1), (12, 1), (13, 1), (17, 0), (27, 0)]
