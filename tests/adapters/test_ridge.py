from __future__ import annotations

import numpy as np
import pytest

from adapters.router.ridge import leave_one_out, solve, targets
from adapters.router.router_heads import cosine_kernel, unit_rows


@pytest.mark.parametrize("penalty", [0.01, 0.3])
def test_leave_one_out_is_what_leaving_each_row_out_gives(penalty):
    rng = np.random.default_rng(0)
    labels = [0, 1, 2] * 5
    units = unit_rows(rng.normal(size=(15, 6)) + 2 * np.eye(6)[labels])
    kernel = cosine_kernel(units, units, 1.0).astype(np.float64)
    found = leave_one_out(kernel, labels, 3, [penalty])
    centred, share = targets(labels, 3)
    for row in range(15):
        others = np.arange(15) != row
        dual = np.linalg.solve(kernel[np.ix_(others, others)] + penalty * np.eye(14), centred[others])
        np.testing.assert_allclose(found.outputs[row], kernel[row, others] @ dual + share, atol=1e-9)
    assert found.penalty == penalty
    assert found.accuracy == (found.outputs.argmax(axis=1) == labels).mean()
    np.testing.assert_allclose(
        kernel @ solve(kernel, labels, 3, penalty),
        kernel @ np.linalg.solve(kernel + penalty * np.eye(15), centred),
    )
