from __future__ import annotations

import pytest

from domain.errors import UsageError
from domain.training import TrainOptions, epoch_order


@pytest.mark.parametrize(
    "options",
    [
        {"epochs": 1, "batch_size": 1, "eval_steps": 1, "max_tokens": 1},
        {"layers": (0,)},
        {"target_error": 0.0},
        {"target_error": 1.0},
    ],
)
def test_the_least_and_the_most_are_allowed(options):
    TrainOptions(**options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"epochs": 0}, "epochs 0 is below 1"),
        ({"batch_size": 0}, "batch-size 0 is below 1"),
        ({"eval_steps": 0}, "eval-steps 0 is below 1"),
        ({"max_tokens": 0}, "max-tokens 0 is below 1"),
        ({"layers": (3, -1)}, "layer -1 is negative"),
        ({"target_error": -0.01}, r"target-error -0\.01 is not between"),
        ({"target_error": 1.01}, r"target-error 1\.01 is not between"),
        ({"target_error": float("nan")}, "target-error nan"),
        ({"learning_rate": -1.0}, "learning rate"),
    ],
)
def test_what_is_out_of_range_is_named_with_its_rule(options, message):
    with pytest.raises(UsageError, match=message):
        TrainOptions(**options)


def test_an_epoch_visits_every_row_in_an_order_of_seed_and_number():
    orders = [epoch_order(20, seed, epoch) for seed, epoch in ((1, 0), (1, 1), (2, 0))]
    assert all(sorted(order) == list(range(20)) for order in orders)
    assert len(set(orders)) == 3
    assert epoch_order(6, 42, 1) == (0, 5, 2, 3, 4, 1)  # the same on every machine, in every version
