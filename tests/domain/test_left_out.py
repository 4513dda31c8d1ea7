from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from domain.left_out import near_duplicate_folds

TWINS = [f"please show the calendar of room {number} on monday" for number in range(4)]
OTHERS = [f"{a} {b}" for a in ("open", "close", "move", "delete") for b in ("window", "file", "claim", "report")]


def test_rows_that_differ_in_a_number_are_left_out_together():
    texts = [*TWINS, *OTHERS]
    folds = near_duplicate_folds(texts, [0] * len(texts), 5, 1)
    assert len(set(folds[:4])) == 1


def test_near_duplicates_of_another_label_do_not_pull():
    texts = [*TWINS, *OTHERS, *(f"{text} now" for text in TWINS)]
    alone = near_duplicate_folds(texts[:20], [0] * 20, 5, 3)
    assert near_duplicate_folds(texts, [0] * 20 + [1] * 4, 5, 3)[:20] == alone


@given(
    st.lists(st.tuples(st.text("abc 1", max_size=12), st.integers(0, 3)), max_size=40),
    st.integers(1, 6),
    st.integers(0, 5),
)
def test_every_row_has_a_fold_and_the_seed_decides_alone(rows, n_folds, seed):
    texts, labels = [text for text, _ in rows], [label for _, label in rows]
    folds = near_duplicate_folds(texts, labels, n_folds, seed)
    assert len(folds) == len(rows)
    assert set(folds) <= set(range(n_folds))
    assert folds == near_duplicate_folds(texts, labels, n_folds, seed)


def test_every_label_is_spread_evenly():
    texts = [f"{first} {second}" for first in "abcdefghij" for second in "klmno"]
    labels = [number % 2 for number in range(50)]
    folds = near_duplicate_folds(texts, labels, 5, 7)
    for label in (0, 1):
        counts = Counter(fold for fold, each in zip(folds, labels, strict=True) if each == label)
        assert sorted(counts.values()) == [5] * 5


def test_a_label_that_a_script_wrote_is_not_left_out_whole():
    texts = [f"please show the calendar of room {number} on monday" for number in range(20)]
    assert len(set(near_duplicate_folds(texts, [0] * 20, 5, 1))) == 5


def test_labels_of_one_row_and_rows_without_words_have_a_fold():
    assert len(near_duplicate_folds(["one", "two", "", "?!"], [0, 1, 2, 2], 5, 1)) == 4


def test_another_seed_gives_other_folds():
    assert len({near_duplicate_folds(OTHERS, [0] * len(OTHERS), 5, seed) for seed in range(5)}) > 1
