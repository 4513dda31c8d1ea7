"""log → drift → feedback → learn, as a user goes."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from domain.errors import DataRejectedError, MissingFileError
from domain.traffic import clusters, move
from entrypoints.bootstrap import Application
from entrypoints.cli import cli

NAMES = ("calendar", "claim-window", "provider-select")


def run(*arguments: Any) -> Any:
    return CliRunner().invoke(cli, [str(each) for each in arguments], obj=Application({}))


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("drift") / "ds"
    made = run("generate", "--train-samples", 10, "--eval-samples", 4, "--output-dir", folder, *_sources())
    assert made.exit_code == 0, made.output
    return folder


def _sources() -> list[str]:
    folder = Path(__file__).parents[2] / "adapters" / "sample_sources"
    return [part for name in NAMES for part in (f"--{name}-dataset", str(folder / f"{name}.jsonl"))]


def decision(number: int, *, text: str | None = "click today", score: float = 0.0, **more: Any) -> dict[str, Any]:
    line = {
        "schema": 1,
        "type": "decision",
        "time": f"2026-11-25T00:00:{number % 60:02}+00:00",
        "id": f"r{number}",
        "adapter": "calendar",
        "best": "calendar",
        "reason": "confident",
        "out_of_scope": score,
        "prompt_hash": f"h{number % 3}",
    }
    return {**line, **({} if text is None else {"text": text}), **more}


def feedback(number: int, correct: str) -> dict[str, Any]:
    return {"schema": 1, "type": "feedback", "time": "t", "id": f"r{number}", "correct": correct, "note": None}


def log(path: Path, *lines: Any) -> Path:
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def test_drift_says_what_moved_what_is_refused_and_where_people_disagree(dataset: Path, tmp_path: Path) -> None:
    draw = random.Random(1)
    old = [decision(n, score=draw.gauss(0, 1)) for n in range(60)]
    refused = {"reason": "out_of_scope", "adapter": None}
    new = [
        decision(60 + n, text=f"cancel flight number {n} to Oslo", score=draw.gauss(2, 1), **refused)
        for n in range(60)
    ]
    path = log(
        tmp_path / "log.jsonl",
        *old,
        *new,
        feedback(1, "calendar"),
        feedback(61, "provider-select"),
        feedback(999, "none"),
    )
    with path.open("a") as file:
        file.write('{"schema": 1, "ty')  # the server is writing
    found = json.loads(run("drift", path, "--dataset-dir", dataset, "--json").stdout)
    assert (found["decisions"], found["moved"], found["feedback"], found["agreed"]) == (120, True, 2, 0.5)
    assert found["unmatched"] == 1
    assert "Feedback whose id this log does not hold: 1;" in run("drift", path, "--dataset-dir", dataset).stdout
    assert found["refused"] == [0.0, 1.0]
    assert found["new_words"][1] > found["new_words"][0]
    assert found["candidates"][0]["size"] == 60
    assert "flight" in found["candidates"][0]["words"]
    assert found["disagreements"] == [["base", "provider-select", 1]]
    text = run("drift", path, "--dataset-dir", dataset).stdout
    assert "they have moved" in text
    assert "base answered, right: provider-select" in text


def test_the_same_traffic_has_not_moved(dataset: Path, tmp_path: Path) -> None:
    draw = random.Random(2)
    lines = [decision(n, text=None, score=draw.gauss(0, 1)) for n in range(200)]
    found = json.loads(run("drift", log(tmp_path / "l", *lines), "--dataset-dir", dataset, "--json").stdout)
    assert found["moved"] is False
    assert found["new_words"] == [None, None]
    assert move([0.0] * 29, [1.0] * 50) is None
    empty = run("drift", log(tmp_path / "e"), "--dataset-dir", dataset)
    assert (empty.stdout, empty.stderr) == ("The log holds no decision.\n", "")  # and there is nothing to learn


def test_refused_most_often_are_prompts_that_came_at_least_three_times(dataset: Path, tmp_path: Path) -> None:
    refused = {"reason": "out_of_scope", "adapter": None}
    texts = ["who won"] * 3 + ["cook rice"] * 2 + ["once"]
    lines = [decision(n, text=text, prompt_hash=text, **refused) for n, text in enumerate(texts)]
    path = log(tmp_path / "l", *lines, feedback(0, "none"))
    shown = run("drift", path, "--dataset-dir", dataset)
    assert "Refused most often\n      3  " in shown.stdout
    assert "      2  " not in shown.stdout
    assert shown.stderr.startswith("Next: moe-router learn ")
    seldom = run("drift", log(tmp_path / "m", *lines[2:]), "--dataset-dir", dataset)
    assert "Refused most often: no prompt came 3 times\n" in seldom.stdout


def test_clusters_are_of_prompts_that_share_words() -> None:
    found = clusters([f"book hotel {n}" for n in range(9)] + ["unrelated thing"] * 2 + ["red fish blue fish"] * 6)
    assert [(each.size, set(each.words)) for each in found] == [(9, {"book", "hotel"}), (6, {"red", "fish", "blue"})]


def test_learn_makes_a_data_set_that_verifies(dataset: Path, tmp_path: Path) -> None:
    rows = [json.loads(line) for line in (dataset / "train.jsonl").read_text().splitlines()]
    held_out = json.loads((dataset / "eval.jsonl").read_text().splitlines()[0])
    lines = [decision(n, text=f"show the insurance doctor number {n}") for n in range(10)]
    said = [feedback(n, "provider-select") for n in range(10)]
    extra = [
        (decision(20, text=None), "calendar"),
        (decision(21, text="tell me a joke"), "none"),
        (decision(22, text="x y z"), "no-such-adapter"),
        (decision(23, text=held_out["text"]), held_out["adapter"]),
        (decision(24, text=rows[0]["text"].upper()), rows[0]["adapter"]),
        (decision(25, text=rows[0]["text"]), next(name for name in NAMES if name != rows[0]["adapter"])),
    ]
    lines += [line for line, _ in extra]
    said += [{**feedback(0, correct), "id": line["id"]} for line, correct in extra]
    path, out_of_scope = log(tmp_path / "log", *lines, *said), tmp_path / "out-of-scope.txt"
    out_of_scope.write_text("who won the match?")  # what the router was trained with stays
    result = run(
        "learn",
        path,
        "--dataset-dir",
        dataset,
        "--output-dir",
        tmp_path / "new",
        "--out-of-scope",
        out_of_scope,
        "--json",
    )
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    assert found["rows"] == {"train": 24 + 8, "val": 6 + 2, "eval": 12}
    counts = [found[name] for name in ("corrected", "known", "conflicts", "without_text", "unknown")]
    assert counts == [10, 1, 2, 1, 1]
    assert out_of_scope.read_text() == "who won the match?\ntell me a joke\n"
    again = ["learn", path, "--dataset-dir", dataset, "--output-dir", tmp_path / "other", "--out-of-scope"]
    told = run(*again, out_of_scope)
    assert told.exit_code == 0
    assert f"1 that belong to no adapter (now in {out_of_scope})" in told.stdout
    assert told.stderr.endswith("--router-out router-new.safetensors\n")
    assert out_of_scope.read_text() == "who won the match?\ntell me a joke\n"
    assert "JSON file" in str(run(*again, tmp_path / "a.json").exception)
    verified = run("verify", tmp_path / "new")
    assert verified.exit_code == 0, verified.output
    with pytest.raises(DataRejectedError, match="gives no new row: it corrects no answer"):
        raise run("learn", log(tmp_path / "l2", lines[0]), "--dataset-dir", dataset).exception


def test_what_is_no_log_is_refused(dataset: Path, tmp_path: Path) -> None:
    bad = tmp_path / "bad"
    bad.write_text("{}\n")
    assert isinstance(run("drift", bad, "--dataset-dir", dataset).exception, DataRejectedError)
    assert isinstance(run("drift", tmp_path / "no", "--dataset-dir", dataset).exception, MissingFileError)
