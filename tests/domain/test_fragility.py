from __future__ import annotations

import pytest
from attrs import evolve

from domain.evaluation import GradedRow
from domain.fragility import ChangedFigures, changed_figures, mean_figures, warnings

SOUND = ChangedFigures(100, 0.95, 0.8, 0.01, 0.02, 0.1)


def row(gold: int, predicted: int, answered: bool = True) -> GradedRow:
    return GradedRow(gold, predicted, 0.9, answered)


def test_flips_go_to_another_adapter_and_changes_also_to_and_from_none():
    before = [row(0, 0), row(0, 0), row(1, 1), row(1, 1, False), row(1, 1, False)]
    after = [row(0, 0), row(0, 1), row(1, 1, False), row(1, 1), row(1, 0, False)]
    found = changed_figures(before, after)
    assert (found.total, found.accuracy, found.coverage) == (5, pytest.approx(3 / 5), pytest.approx(3 / 5))
    assert (found.wrong, found.flips, found.changes) == (
        pytest.approx(1 / 3),
        pytest.approx(1 / 5),
        pytest.approx(3 / 5),
    )


def test_nothing_answered_has_no_wrong_answers():
    assert changed_figures([row(0, 0)], [row(0, 1, False)]).wrong == 0.0


def test_the_mean_of_wrong_answers_is_over_answers_not_over_kinds():
    kinds = [ChangedFigures(100, 1.0, 0.9, 0.0, 0.0, 0.0), ChangedFigures(100, 0.5, 0.1, 0.5, 0.2, 0.4)]
    found = mean_figures(kinds)
    assert (found.total, found.accuracy, found.coverage) == (200, 0.75, 0.5)
    assert (found.wrong, found.flips) == (pytest.approx(0.05), pytest.approx(0.1))


def test_a_sound_router_has_no_warnings():
    assert warnings(0.8, {"case": SOUND}, 0.02) == ()
    assert warnings(0.5, {}, 0.02) == ()


@pytest.mark.parametrize(
    ("coverage", "changed", "words"),
    [
        (0.8, ChangedFigures(100, 0.8, 0.9, 0.01, 0.11, 0.2), "decisions go to another adapter under case (11.0%)"),
        (0.8, ChangedFigures(100, 0.8, 1.0, 0.05, 0.0, 0.2), "twice the target error of 2.0% under case (5.0%)"),
        (0.4, SOUND, "answers 40% of these prompts and 80% of changed ones"),
        (0.8, ChangedFigures(100, 0.9, 0.3, 0.0, 0.0, 0.5), "answers 80% of these prompts and 30% of changed ones"),
    ],
)
def test_each_weakness_has_its_warning_with_a_remedy(coverage, changed, words):
    (warning,) = warnings(coverage, {"case": changed}, 0.02)
    assert words in warning
    assert "What helps: more training rows" in warning
    assert "target error" in warning


def test_two_prompts_prove_nothing():
    assert warnings(0.8, {"case": ChangedFigures(10, 0.8, 1.0, 0.2, 0.2, 0.2)}, 0.02) == ()


def test_the_worst_three_kinds_are_named():
    kinds = {
        name: ChangedFigures(100, 0.8, 0.9, 0.0, share, 0.3)
        for name, share in {"a": 0.2, "b": 0.4, "c": 0.3, "d": 0.5}.items()
    }
    (warning,) = warnings(0.8, kinds, 0.02)
    assert "under d (50.0%), b (40.0%), c (30.0%) and 1 more kinds of change" in warning


def test_a_router_that_errs_and_refuses_much_is_not_told_to_loosen_its_limits():
    errs, refuses = warnings(0.3, {"case": evolve(SOUND, coverage=0.3, wrong=0.3)}, 0.02)
    assert "more answers are wrong" in errs
    assert "looser limits would answer more, but err more often, too" in refuses
    (alone,) = warnings(0.3, {}, 0.02)
    assert alone.endswith("a higher target error)")
