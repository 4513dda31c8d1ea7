from __future__ import annotations

import random

from domain.label_noise import LEAST_NOISE, confused_labels, mislabelled, noise_share


def scored(flip: float, rows: int = 300, sure: float = 4.0) -> tuple[list[list[float]], list[int], set[int]]:
    """Return logits of a good router for three labels, labels of which some are wrong, and which ones are."""
    rng = random.Random(3)
    logits, labels, wrong = [], [], set()
    for row in range(rows):
        true = row % 3
        logits.append([rng.gauss(sure if label == true else 0.0, 0.7) for label in range(3)])
        if rng.random() < flip:
            wrong.add(row)
            true = (true + rng.choice((1, 2))) % 3
        labels.append(true)
    return logits, labels, wrong


def test_wrong_labels_are_found_and_right_ones_kept():
    logits, labels, wrong = scored(0.1, rows=600)
    found = set(mislabelled(logits, labels))
    assert found <= wrong
    assert len(found) > 0.5 * len(wrong)


def test_rows_that_a_router_confuses_are_not_taken_for_mislabelled():
    assert mislabelled(*scored(0.0)[:2]) == {}
    assert mislabelled(*scored(0.0, sure=1.0)[:2]) == {}  # a poor router errs, but not where it is surest


def test_a_few_errors_among_few_rows_are_no_sign_of_noise():
    logits, labels, wrong = scored(0.1, rows=20)
    assert wrong
    assert mislabelled(logits, labels) == {}


def test_of_adapters_that_overlap_no_row_is_dropped():
    logits, labels, _ = scored(0.0)
    rows = [row for row, label in enumerate(labels) if label != 1 or row < 90]
    shared = [row // 3 % 2 if labels[row] == 0 else labels[row] for row in rows]  # two labels for the same prompts
    assert mislabelled([logits[row] for row in rows], shared) == {}


def test_the_share_of_noise_is_a_lower_bound_on_the_surest_third():
    sure = [1 - row / 1000 for row in range(300)]
    assert noise_share(sure, [True] * 300) == 0
    assert noise_share(sure, [row % 10 != 0 for row in range(300)]) > LEAST_NOISE
    assert noise_share(sure, [row % 10 != 0 for row in range(300)]) < 0.1
    assert noise_share(sure, [row < 100 for row in range(300)]) == 0  # all errors are where it is unsure


def test_contradictions_beyond_the_noise_are_likely_errors_of_the_router():
    rng = random.Random(5)
    logits, labels = [], []
    for row in range(1500):  # as many wrong labels everywhere, and errors of the router among the less sure rows
        true, sure = row % 3, row % 5 == 0
        seen = true if sure or rng.random() > 0.15 else (true + 1) % 3
        logits.append([(6.0 if sure else 3.5) if label == seen else 0.0 for label in range(3)])
        labels.append((true + 1) % 3 if rng.random() < 0.12 else true)
    found = mislabelled(logits, labels)
    assert {found[row] for row in found if row % 5 == 0} == {0.0}
    assert max(found.values()) > 0.2


def test_how_sure_is_sure_depends_on_the_label_that_contradicts():
    logits, labels, _ = scored(0.1, rows=600, sure=8.0)
    doubted = [[0.0, 0.0, 0.7] if row % 3 == 2 else each for row, each in enumerate(logits)]  # label 2 never is sure
    doubted[0], doubted[2] = [0.0, 0.0, 0.9], [0.9, 0.0, 0.0]
    labels[0], labels[2] = 0, 2
    found = mislabelled(doubted, labels)
    assert 0 in found  # as sure as label 2 ever is
    assert 2 not in found  # much less sure than label 0 is


def test_two_labels_that_are_mixed_up_are_found_and_ordinary_errors_are_not():
    labels = [0] * 50 + [1] * 50 + [2] * 50
    best = [0, 1] * 25 + [1, 0] * 25 + [2] * 45 + [0] * 5
    assert confused_labels(best, labels) == {(0, 1): (50, 100)}
    assert confused_labels(labels, labels) == {}


def test_few_rows_do_not_show_that_labels_are_mixed_up():
    assert confused_labels([1, 1, 1, 0, 0, 0], [0, 0, 0, 1, 1, 1]) == {}
    assert confused_labels([0, 0, 0, 0, 1, 1, 1, 1, 1, 0], [0, 0, 0, 0, 0, 1, 1, 1, 1, 1]) == {}
