"""How the encoding of a run's prompts is divided among machines."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from application.training.encode_share import balanced_shares

SIZES = st.lists(st.integers(1, 20_000), max_size=60)


@given(SIZES, st.integers(1, 9))
def test_every_piece_once_in_order_and_shares_differ_by_one_piece_at_most(sizes: list[int], shares: int) -> None:
    found = balanced_shares(sizes, shares)
    assert len(found) == shares
    assert sorted(index for share in found for index in share) == list(range(len(sizes)))
    assert all(share == sorted(share) for share in found)
    loads = [sum(sizes[index] for index in share) for share in found]
    assert max(loads) - min(loads) <= max(sizes, default=0)


def test_few_pieces_of_different_size_are_divided_better_than_in_turns() -> None:
    sizes = [9, 1, 9, 1, 9, 1, 9, 1]
    assert {sum(sizes[index] for index in share) for share in balanced_shares(sizes, 2)} == {20}
