"""Swapped, duplicated, useless and overlapping adapters are found and named, from the losses of reference answers."""

from __future__ import annotations

from random import Random

import pytest
from attrs import evolve

from domain.bootstrap import Estimate, average, resampled_means
from domain.comparison import AdapterComparison, ScoredRow, compare_adapters
from domain.routing_gain import routing_gain
from domain.verdict import verdict

NAMES = ("a", "b", "c")
GOOD = {"a": {"base": 2.0, "a": 0.5, "b": 1.5, "c": 1.6}, "b": {"base": 2.0, "a": 1.6, "b": 0.4, "c": 1.5}}
GOOD["c"] = {"base": 2.2, "a": 1.5, "b": 1.5, "c": 0.6}


def rows(
    means: dict[str, dict[str, float]], count: int = 40, noise: float = 0.1, names: tuple[str, ...] = NAMES
) -> list[ScoredRow]:
    """Rows whose losses scatter around the means, by data set and by who answers; equal means scatter alike."""
    made = []
    for name in means:
        rng = Random(name)
        for number in range(count):
            hard = rng.gauss(0, 0.3)  # some prompts are harder for everybody
            shifts: dict[float, float] = {}
            losses = tuple(
                max(0.01, mean + hard + shifts.setdefault(mean, rng.gauss(0, noise)))
                for mean in (means[name][speaker] for speaker in ("base", *names))
            )
            made.append(ScoredRow(name, f"{name}{number}", f"{name} {number}", losses, 20))
    return made


def changed(dataset: str, **losses: float) -> dict[str, dict[str, float]]:
    return {name: {**each, **(losses if name == dataset else {})} for name, each in GOOD.items()}


def compared(means: dict[str, dict[str, float]], **options: float) -> AdapterComparison:
    return compare_adapters(rows(means, **options), NAMES)  # type: ignore[arg-type]


def test_sound_adapters_are_each_the_best_at_their_own_prompts() -> None:
    found = compared(GOOD)
    assert found.counts == {"a": 40, "b": 40, "c": 40}
    for dataset, means in GOOD.items():
        for speaker, mean in means.items():
            cell = found.cell(dataset, speaker)
            assert cell.loss.low < cell.loss.value < cell.loss.high
            assert cell.loss.value == pytest.approx(mean, abs=0.15)
            assert cell.behind.value == pytest.approx(mean - means[dataset], abs=0.1)
        assert found.gains[dataset].positive
    assert (found.no_better, found.outdone, found.swapped, found.alike, found.elsewhere) == ((), (), (), (), ())
    assert verdict(found, None).startswith("Every adapter is the best at its own prompts")


def test_a_swapped_pair_is_named() -> None:
    swapped = {
        "a": {**GOOD["a"], "a": 1.5, "b": 0.5},
        "b": {**GOOD["b"], "a": 0.4, "b": 1.6},
        "c": GOOD["c"],
    }
    found = compared(swapped)
    assert found.swapped == (("a", "b"),)
    assert [(one.dataset, one.adapter) for one in found.outdone] == [("a", "b"), ("b", "a")]
    assert verdict(found, None).startswith("a and b seem to be swapped")
    assert {(rows(swapped)[one.row].adapter, one.adapter) for one in found.elsewhere} == {("a", "b"), ("b", "a")}
    assert len(found.elsewhere) == 80


def test_a_circle_of_misplaced_adapters_is_named_one_by_one() -> None:
    moved = {"a": {**GOOD["a"], "a": 1.5, "b": 0.5}, "b": {**GOOD["b"], "b": 1.5, "c": 0.5}}
    moved["c"] = {**GOOD["c"], "c": 1.5, "a": 0.5}
    found = compared(moved)
    assert found.swapped == ()
    assert "a's prompts are answered better by b, b's prompts are answered better by c and c's" in verdict(
        found, None
    )


def test_a_duplicate_is_interchangeable() -> None:
    twin = {
        "a": {**GOOD["a"], "b": GOOD["a"]["a"]},
        "b": {**GOOD["b"], "a": GOOD["b"]["b"]},
        "c": {**GOOD["c"], "a": 1.5, "b": 1.5},
    }
    found = compared(twin)
    assert [(pair.one, pair.other, pair.shown) for pair in found.alike] == [("a", "b", True)]
    assert verdict(found, None).startswith("a and b are interchangeable")


def test_a_duplicate_that_has_no_prompts_of_its_own_is_found_too() -> None:
    found = compared({"a": {**GOOD["a"], "c": GOOD["a"]["a"]}, "b": GOOD["b"]})
    assert [(pair.one, pair.other, len(pair.apart), pair.shown) for pair in found.alike] == [("a", "c", 1, True)]
    assert verdict(found, None).startswith("a and c are interchangeable")


def test_too_few_prompts_show_nothing() -> None:
    few = [
        ScoredRow(own, str(number), str(number), (2.0, 0.5 + shift, 0.5, 2.0), 20)
        for own in "ab"
        for number, shift in enumerate((0.4, -0.3, -0.2, 0.3))
    ]
    found = compare_adapters(few, NAMES)
    assert [(pair.one, pair.other, pair.shown) for pair in found.alike] == [("a", "b", False)]
    assert found.outdone == ()


def test_an_adapter_that_has_learnt_nothing_is_to_be_trained_though_others_are_ahead_of_it() -> None:
    found = compared(changed("c", a=1.5, b=1.5, c=2.2))
    assert [one.dataset for one in found.outdone] == ["c"]
    assert verdict(found, None).startswith("c is not shown to be better than the base model on its own 40 prompts")


def test_an_adapter_that_is_no_better_than_the_base_model_is_named() -> None:
    found = compared(changed("c", a=2.3, b=2.4, c=2.2))
    assert found.no_better == ("c",)
    assert "c is not shown to be better than the base model on its own 40 prompts" in verdict(found, None)


def test_single_prompts_that_another_adapter_answers_better() -> None:
    some = rows(GOOD)
    own = 1 + NAMES.index(some[0].adapter)
    losses = list(some[0].losses)
    losses[own], losses[3] = 1.9, 0.2
    some[0] = ScoredRow(some[0].adapter, "x", "x", tuple(losses), 20)
    some.append(ScoredRow("a", "short", "short", (2.0, 0.5, 0.4, 0.5), 20))  # 2 nats in all: chance
    found = compare_adapters(some, NAMES)
    assert [(one.row, one.adapter, round(one.by, 3)) for one in found.elsewhere] == [(0, "c", 1.7)]


def routed(choices: dict[str, str | None], confidence: float = 0.9) -> list[ScoredRow]:
    """Every prompt of a data set gets the same choice; a router that abstains would have chosen the label."""
    return [
        ScoredRow(
            row.adapter, row.source_id, row.text, row.losses, row.tokens,
            chosen=choices[row.adapter], best=choices[row.adapter] or row.adapter, confidence=confidence,
        )
        for row in rows(GOOD)
    ]  # fmt: skip


def test_a_perfect_router_captures_all_that_can_be_gained() -> None:
    gain = routing_gain(routed({"a": "a", "b": "b", "c": "c"}), NAMES)
    assert gain.loss == gain.by_label
    assert gain.regret.value == pytest.approx(0, abs=1e-9)
    assert gain.captured.value == pytest.approx(1)
    assert gain.over_base.value == pytest.approx((2 + 2 + 2.2) / 3 - 0.5, abs=0.05)
    assert gain.over_single.positive
    assert gain.over_uniform.positive
    assert gain.over_random.value == pytest.approx(gain.over_uniform.value, abs=1e-9)  # it chooses each as often
    assert (gain.abstention.count, gain.best_choices) == (0, 1.0)
    assert gain.calibration_error == pytest.approx(0.1)
    assert "Routing pays" in verdict(compare_adapters(rows(GOOD), NAMES), gain)


def test_a_router_that_always_says_the_same_gains_nothing() -> None:
    gain = routing_gain(routed({"a": "b", "b": "b", "c": "b"}), NAMES)
    assert (gain.single, gain.over_single.value, gain.captured.value) == ("b", 0.0, 0.0)
    assert gain.over_random.value == pytest.approx(0)
    assert gain.best_choices == pytest.approx(1 / 3)
    assert "Routing is not shown to pay: b alone" in verdict(compare_adapters(rows(GOOD), NAMES), gain)


def test_what_abstention_costs_and_saves() -> None:
    costly = routing_gain(routed({"a": "a", "b": None, "c": "c"}), NAMES)
    assert costly.abstention.count == 40
    assert costly.abstention.cost == pytest.approx((2.0 - 0.4) / 3, abs=0.05)
    assert costly.abstention.saved == 0
    said = verdict(compare_adapters(rows(GOOD), NAMES), costly)
    assert said.endswith("; 100% of what it misses is lost on 40 refused prompts: consider looser limits.")
    mistaken = routing_gain(routed({"a": "b", "b": None, "c": "a"}), NAMES)
    assert "refused" not in verdict(compare_adapters(rows(GOOD), NAMES), mistaken)  # that is the smaller part
    saving = [
        ScoredRow("a", "1", "1", (0.5, 1.5, 2.0, 2.0), 20, chosen=None, best="a", confidence=0.2),
        ScoredRow("b", "2", "2", (2.0, 2.0, 1.0, 2.0), 20, chosen="b", best="b", confidence=0.9),
    ]
    found = routing_gain(saving, NAMES)
    assert (found.abstention.cost, found.abstention.saved) == (0, 0.5)
    assert found.loss.value == pytest.approx((0.5 + 1.0) / 2)


def test_intervals_cover_what_they_should() -> None:
    """Of 60 samples from a known mean, about 95 % of the intervals hold it (binomially, at least 50)."""
    rng, covered = Random(1), 0
    for _ in range(60):
        sample = [rng.gauss(3, 1) for _ in range(40)]
        (mean,) = resampled_means({"x": [sample]}, resamples=200)["x"]
        covered += mean.estimate.low <= 3 <= mean.estimate.high
    assert 50 <= covered <= 60


def test_resamples_are_paired_and_do_not_depend_on_other_groups() -> None:
    one = [float(number) for number in range(20)]
    other = [value + 1 for value in one]
    alone = resampled_means({"x": [one, other]})
    beside = resampled_means({"y": [other], "x": [one, other]})
    assert alone["x"] == beside["x"]
    shift = (alone["x"][1] - alone["x"][0]).estimate
    assert (shift.low, shift.high) == (pytest.approx(1), pytest.approx(1))
    assert average(alone["x"]).value == 10.0
    assert Estimate(1, 0.1, 2).positive
    assert not Estimate(1, -0.1, 2).positive


def test_the_comparison_is_the_same_each_time() -> None:
    assert compared(GOOD) == compared(GOOD)


def test_prompts_better_answered_elsewhere_come_clearest_first_over_the_whole_answer() -> None:
    some = [
        ScoredRow("a", "1", "1", (2.0, 1.5, 1.0, 1.5), 10),  # 5 nats in all
        ScoredRow("a", "2", "2", (2.0, 2.0, 1.0, 2.0), 4),  # 4
        ScoredRow("a", "3", "3", (2.0, 1.5, 1.0, 1.5), 40),  # 20
        ScoredRow("a", "4", "4", (2.0, 1.5, 1.0, 1.5), 6),  # 3: the least that counts
    ]
    assert [one.row for one in compare_adapters(some, NAMES).elsewhere] == [2, 0, 1, 3]


def test_the_verdict_speaks_of_one_and_of_several_in_whole_sentences() -> None:
    one = compared(changed("c", a=2.3, b=2.4, c=2.2))
    assert verdict(one, None) == (
        "c is not shown to be better than the base model on its own 40 prompts: train it again or leave it out."
    )
    two = compared({**changed("c", a=2.3, b=2.4, c=2.2), "b": {"base": 2.0, "a": 2.1, "b": 2.0, "c": 2.2}})
    assert verdict(two, None) == (
        "b and c are not shown to be better than the base model on their own 40 prompts: "
        "train them again or leave them out."
    )


def test_what_refusing_saves_counts_against_what_it_costs() -> None:
    gain = routing_gain(routed({"a": "a", "b": None, "c": "c"}), NAMES)
    assert "refused prompts" in verdict(compare_adapters(rows(GOOD), NAMES), gain)
    less = evolve(
        gain, abstention=evolve(gain.abstention, cost=0.7 * gain.regret.value, saved=0.25 * gain.regret.value)
    )
    assert "refused prompts" not in verdict(compare_adapters(rows(GOOD), NAMES), less)
    more = evolve(less, abstention=evolve(less.abstention, saved=0.0))
    assert "; 70% of what it misses is lost on 40 refused prompts" in verdict(
        compare_adapters(rows(GOOD), NAMES), more
    )


def test_a_router_that_gains_nothing_is_told_what_to_do() -> None:
    gain = routing_gain(routed({"a": "b", "b": "b", "c": "b"}), NAMES)
    said = verdict(compare_adapters(rows(GOOD), NAMES), gain)
    assert said.endswith("nats per token); improve the router, or do without it.")
