"""Batches of similar length under a token budget."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from adapters.base_model.length_batches import length_sorted_batches

LENGTHS = st.lists(st.integers(0, 600), max_size=60)


@given(LENGTHS, st.integers(1, 2000))
def test_every_sequence_once_and_never_above_the_budget(lengths: list[int], budget: int) -> None:
    batches = length_sorted_batches(lengths, budget)
    assert sorted(index for batch in batches for index in batch) == list(range(len(lengths)))
    for batch in batches:
        assert len(batch) == 1 or len(batch) * max(lengths[index] for index in batch) <= budget


@given(LENGTHS, st.integers(1, 2000))
def test_longest_first_and_full(lengths: list[int], budget: int) -> None:
    batches = length_sorted_batches(lengths, budget)
    in_order = [lengths[index] for batch in batches for index in batch]
    assert in_order == sorted(lengths, reverse=True)
    for batch in batches[:-1]:  # one more would not have fitted
        assert (len(batch) + 1) * max(1, lengths[batch[0]]) > budget


def test_little_is_padding() -> None:
    lengths = [5, 100] * 50
    batches = length_sorted_batches(lengths, 500)
    padded = sum(len(batch) * max(lengths[index] for index in batch) for batch in batches)
    assert padded == sum(lengths)
