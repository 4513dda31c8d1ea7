"""Limits in the user's hands, what decided, and what a router says of itself: route, infer, describe, evaluate."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from attrs import evolve
from click.testing import CliRunner, Result
from matplotlib.figure import Figure

from domain.labels import LabelMap
from domain.pieces import MOST_CHARACTERS
from domain.robustness import CHANGES
from domain.routing import AbstentionThresholds, NearestPrompt, OtherLimits, Reason, RouteScores, decide
from entrypoints.api import OpenRouter
from entrypoints.backend import Questions
from entrypoints.cli import cli
from entrypoints.reports.decisions import decision_as_text
from entrypoints.reports.trade_off import expectation, trade_off_table
from tests.scored_world import ROUTER, ScoredApplication, scored_route, scored_router


def run(*arguments: Any) -> Result:
    return CliRunner().invoke(cli, [*map(str, arguments)], obj=ScoredApplication())


def decisions(*arguments: Any) -> list[dict[str, Any]]:
    routed = run("route", "--router", ROUTER, "--json", *arguments)
    assert routed.exit_code == 0, routed.exception
    inferred = run("infer", "--router", ROUTER, "--route-only", "--json", *arguments)
    assert inferred.exit_code == 0, inferred.exception
    rows = [json.loads(line) for line in routed.stdout.splitlines()]
    assert [row["adapter"] for row in rows] == [json.loads(line)["adapter"] for line in inferred.stdout.splitlines()]
    return rows


PROMPTS = ("--prompt", "red", "--prompt", "red?", "--prompt", "strange red")


@pytest.mark.parametrize(
    ("options", "adapters", "limits"),
    [
        ((), ["red", None, None], (0.8, 0.5)),
        (("--min-confidence", "0.6"), ["red", "red", None], (0.6, 0.5)),
        (("--min-confidence", "0.95"), [None, None, None], (0.95, 0.5)),
        (("--max-out-of-scope", "1.5"), ["red", None, "red"], (0.8, 1.5)),
        (("--min-confidence", "0", "--max-out-of-scope", "inf"), ["red", "red", "red"], (0.0, None)),
        (("--no-abstain",), ["red", "red", "red"], (0.0, None)),
    ],
)
def test_route_and_infer_take_other_limits_and_say_which_applied(options, adapters, limits):
    rows = decisions(*PROMPTS, *options)
    assert [row["adapter"] for row in rows] == adapters
    confidence, scope = limits
    assert all(row["thresholds"] == {"min_confidence": confidence, "max_out_of_scope": scope} for row in rows)


@pytest.mark.parametrize("command", ["route", "infer"])
@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--min-confidence", "1.2"), "min-confidence 1.2 is not between 0 and 1"),
        (("--min-confidence", "nan"), "min-confidence nan is not between 0 and 1"),
        (("--max-out-of-scope", "nan"), "max-out-of-scope nan is not a number"),
        (("--no-abstain", "--min-confidence", "0.5"), "excludes min-confidence and max-out-of-scope"),
        (("--no-abstain", "--max-out-of-scope", "0"), "excludes min-confidence and max-out-of-scope"),
    ],
)
def test_limits_that_cannot_be_are_refused(command, options, message):
    result = run(command, "--router", ROUTER, "--prompt", "red", *options)
    assert result.exit_code != 0
    assert message in str(result.exception)


def test_the_api_takes_other_limits():
    router = OpenRouter(scored_router().card, "a" * 64, scored_route())
    assert router.route("red?").adapter is None
    assert router.route("red?", limits=OtherLimits(min_confidence=0.5)).adapter == "red"
    assert router.route("strange", limits=OtherLimits(no_abstain=True)).adapter == "blue"


def test_questions_for_another_machine_carry_their_limits():
    from adapters.modal_cloud.modal_wire import from_wire, to_wire

    asked = Questions(ROUTER, limits=OtherLimits(0.5, 1.5))
    assert from_wire(Questions, to_wire(asked)) == asked
    assert asked.policy.limits == OtherLimits(0.5, 1.5)


def test_the_piece_that_decided_is_shown_only_where_there_are_several():
    prompt = "Hello there.\nPlease make it green.\nThanks a lot!"
    (row,) = decisions("--prompt", prompt)
    assert (row["piece"], row["pieces"], row["shortened"]) == ("Please make it green.", 4, False)  # and the whole
    text = run("route", "--router", ROUTER, "--prompt", prompt).stdout
    assert "decided by, of 4 pieces: Please make it green.\n" in text
    assert "decided by" not in run("route", "--router", ROUTER, "--prompt", "green").stdout
    assert "only its beginning" not in text
    assert "(limit 0.500)" in text
    assert "(no limit)" in run("route", "--router", ROUTER, "--prompt", prompt, "--no-abstain").stdout


def test_a_shortened_prompt_is_said_to_be():
    prompt = "green " + "word " * (MOST_CHARACTERS // 5)
    (row,) = decisions("--prompt", prompt)
    assert row["shortened"]
    assert "only its beginning and end were read" in run("route", "--router", ROUTER, "--prompt", prompt).stdout


def test_describe_shows_what_other_limits_would_do():
    table = trade_off_table(scored_router().card).splitlines()
    (own,) = [line for line in table if "these limits apply" in line]
    assert own.split()[:8] == ["2.0%", "0.800", "0.500", "80.0%", "1.0%", "70.0%", "2.0%", "97.0%"]
    assert any(line.split()[:1] == ["5.0%"] for line in table)
    assert not any("have the same limits" in line for line in table)
    assert trade_off_table(scored_router(trade_off=()).card) == ""


def test_route_says_when_no_near_prompt_is_of_the_adapter_that_it_chose():
    near = (NearestPrompt("a claim", "claims", 0.9), NearestPrompt("a meeting", "calendar", 0.8))
    decision = decide(RouteScores((0.9, 0.1), 0.0, near), LabelMap(("calendar", "claims")), AbstentionThresholds())
    assert "look at this decision twice" not in decision_as_text("hi", decision, "a" * 64, 1.0)
    odd = evolve(decision, nearest=near[:1])
    assert "none of these near prompts is of calendar" in decision_as_text("hi", odd, "a" * 64, 1.0)
    refused = evolve(odd, adapter=None, reason=Reason.LOW_CONFIDENCE)
    assert "look at this decision twice" not in decision_as_text("hi", refused, "a" * 64, 1.0)


def test_describe_says_why_a_looser_target_changes_nothing():
    strict = scored_router().card.trade_off[0]
    card = scored_router(trade_off=(strict, evolve(strict, target_error=0.9))).card
    told = trade_off_table(card)
    assert "Where two lines have the same limits" in told
    assert "(3%, or 1.5 times the target error if that is more)" in told


def test_training_ends_with_what_will_be_refused_and_why():
    card = scored_router().card
    assert expectation(card) == (
        "Answers about 80% of prompts like its data, 70% of changed ones; refuses 97% of the packaged "
        "out-of-scope prompts (others: evaluate --out-of-scope FILE); "
        "limits: confidence ≥ 0.800, out-of-scope score ≤ 0.500; most refusals: low confidence"
    )
    assert "of the packaged and given out-of-scope prompts" in expectation(evolve(card, n_out_of_scope=3))
    assert expectation(evolve(card, target_error=0.05)).endswith("most refusals: a high out-of-scope score")
    assert expectation(evolve(card, target_error=0.03)).startswith("Refuses prompts outside its limits: confidence")
    little = evolve(card, trade_off=(evolve(card.trade_off[0], coverage=0.2), card.trade_off[1]))
    assert "with --min-confidence 0.60 about 90% are answered, 3.0% of them wrong" in expectation(little)
    assert "⚠️" not in expectation(evolve(card, trade_off=(evolve(card.trade_off[0], coverage=0.2),)))


def evaluated(tmp_path: Path, texts: list[tuple[str, str]], *options: str) -> tuple[str, dict[str, Any]]:
    rows = [
        {"text": f"{text} {i}", "label": ("red", "green", "blue").index(name), "adapter": name, "source_id": str(i)}
        for i, (text, name) in enumerate(texts)
    ]
    (tmp_path / "eval.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    output = tmp_path / "report.json"
    result = run("evaluate", "--router", ROUTER, "--data-path", tmp_path / "eval.jsonl", "--output", output, *options)
    assert result.exit_code == 0, result.exception
    return result.stdout, json.loads(output.read_text())


def test_evaluate_tells_how_each_kind_of_change_fares(tmp_path):
    text, report = evaluated(tmp_path, [("red", "red"), ("green", "green"), ("blue", "blue")] * 4)
    kinds, mean = report["robustness"]["kinds"], report["robustness"]["mean"]
    assert list(kinds) == [change.name for change in CHANGES]
    assert kinds["thanks"] == {
        "total": 12, "accuracy": 1.0, "coverage": 1.0, "wrong": 0.0, "flips": 0.0, "changes": 0.0
    }  # fmt: skip
    assert kinds["typos"]["flips"] > 0  # a mistyped name is taken for blue
    assert 0 < mean["flips"] < kinds["typos"]["flips"]
    assert mean["total"] == 12 * len(CHANGES)
    lines = text.splitlines()
    assert [line for line in lines if line.split()[:1] == ["typos"]]
    assert [line for line in lines if line.split()[:1] == ["mean"]]
    (warning,) = [line for line in lines if "the router is fragile" in line]
    assert "typos (" in warning
    assert "more training rows in the words of real users" in warning
    assert any("the router is fragile" in line for line in report["warnings"])


def test_evaluate_warns_of_a_router_that_refuses_much_and_only_then(tmp_path):
    text, report = evaluated(tmp_path, [("strange red", "red")] * 3, "--no-robustness")
    assert "robustness" not in report
    assert report["warnings"] == [line.removeprefix("⚠️  ") for line in text.splitlines() if "refuses much" in line]
    assert "moe-router describe ROUTER" in text.splitlines()[-1]
    assert "it answers 0% of these prompts." in report["warnings"][0]
    assert evaluated(tmp_path, [("red", "red")] * 3, "--no-robustness")[1]["warnings"] == []


def test_plots_mark_the_limits_for_other_target_errors(tmp_path, monkeypatch):
    drawn: list[Figure] = []
    monkeypatch.setattr(Figure, "savefig", lambda self, *_, **__: drawn.append(self))
    evaluated(tmp_path, [("red", "red"), ("red?", "green")] * 3, "--no-robustness", "--plots", str(tmp_path / "p"))
    (curve,) = [axes for figure in drawn for axes in figure.axes if "risk-coverage" in axes.get_title()]
    marks = {text.get_text(): text.xy for text in curve.texts}
    assert marks == {"0.02": (0.5, 0.0), "0.05": (1.0, 0.5)}  # from confidence 0.8 on and from 0.6 on


def test_serve_takes_limits_too(monkeypatch):
    served = []
    monkeypatch.setattr("entrypoints.cli.serve._serve", lambda _app, options: served.append(options.limits))
    for words in (["--min-confidence", "0.8", "--max-out-of-scope", "0.1"], ["--no-abstain"], []):
        assert run("serve", "--lora-dir", "loras", *words).exit_code == 0
    assert served == [OtherLimits(0.8, 0.1), OtherLimits(no_abstain=True), OtherLimits()]
