from __future__ import annotations

import numpy as np
import pytest

from adapters.router.ridge import MOST_WEIGHT, best_scale, leave_one_out, row_weights, solve, targets
from adapters.router.router_heads import cosine_kernel, unit_rows


def kernel_of(labels: list[int]) -> np.ndarray:
    rng = np.random.default_rng(0)
    units = unit_rows(rng.normal(size=(len(labels), 6)) + 2 * np.eye(6)[labels])
    return cosine_kernel(units, units, 1.0).astype(np.float64)


@pytest.mark.parametrize("groups", [(), tuple(row // 2 for row in range(16))], ids=["rows", "groups"])
@pytest.mark.parametrize("penalty", [0.01, 0.3])
def test_leave_one_out_is_what_leaving_each_group_out_gives(penalty, groups):
    labels = [0, 0, 1, 1, 2, 2] * 2 + [0, 0, 3, 3]  # unbalanced; the last label is "none"
    kernel, weights = kernel_of(labels), row_weights(labels)
    outputs = np.zeros((16, 4))
    for row in range(16):
        others = [other for other in range(16) if (groups[other] != groups[row] if groups else other != row)]
        loaded = kernel[np.ix_(others, others)] + np.diag(penalty / weights[others])
        outputs[row] = kernel[row, others] @ np.linalg.solve(loaded, targets(labels, 4)[others])
    judged, truth = outputs[:14], labels[:14]  # how well "none" is recognised does not decide
    found = leave_one_out(kernel, labels, 4, [penalty], groups)
    assert found.penalty == penalty
    assert found.loss == pytest.approx(best_scale(judged, truth)[1])
    assert found.accuracy == (judged.argmax(axis=1) == truth).mean()


def test_the_penalty_with_the_lowest_loss_is_taken():
    labels = [0, 1, 2] * 6
    kernel = kernel_of(labels)
    tried = [leave_one_out(kernel, labels, 4, [penalty]) for penalty in (0.001, 0.1, 100.0)]
    found = leave_one_out(kernel, labels, 4, [0.001, 0.1, 100.0])
    assert found.loss == min(one.loss for one in tried)


def test_the_dual_weights_solve_the_weighted_system():
    labels = [0] * 9 + [1] * 3 + [2]
    kernel = kernel_of(labels)
    dual = solve(kernel, labels, 4, 0.3)
    np.testing.assert_allclose(
        kernel @ dual + np.diag(0.3 / row_weights(labels)) @ dual, targets(labels, 4), atol=1e-9
    )


def test_rows_of_small_labels_weigh_more_within_bounds():
    weights = row_weights([0] * 180 + [1] * 8)
    assert weights[0] < 1 < weights[-1]
    assert weights[-1] / weights[0] == pytest.approx(min(MOST_WEIGHT, (180 / 8) ** 0.5) ** 2, rel=1e-6)
    assert row_weights([0, 1, 2] * 4).tolist() == [1.0] * 12
    assert row_weights([0] * 10_000 + [1]).max() <= MOST_WEIGHT
