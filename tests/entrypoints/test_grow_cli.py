"""``add-adapter`` and ``remove-adapter`` as users meet them, over a tiny random base model."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from application.training.training_loop import TrainingLoop
from entrypoints.bootstrap import Application
from entrypoints.cli import main
from entrypoints.wiring import training
from tests.training_world import COMPANIONS, WORDS, rows

Run = Callable[..., tuple[int, str, str]]
BILLING = ("invoice pay refund", "charge the card", "send a receipt", "balance of the bill", "fee on the invoice")


def write_source(path: Path, texts: list[str]) -> None:
    path.write_text("".join(json.dumps({"conversations": [{"from": "human", "value": one}]}) + "\n" for one in texts))


def command(*arguments: str) -> int:
    with pytest.raises(SystemExit) as ended:
        main(list(arguments))
    return int(ended.value.code or 0)


@contextmanager
def working_in(folder: Path, base: Path) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("BASE_MODEL_ID", str(base))
        patch.setenv("MOE_ROUTER_CACHE", str(folder / "cache"))
        patch.delenv("ROUTER_OUT", raising=False)
        patch.setattr(training, "packaged_companions", lambda: COMPANIONS)  # few, so that training is quick
        yield


@pytest.fixture(scope="module")
def trained(tiny_base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with source data, a data set ``claims_<time>`` and a router that was trained on it."""
    place = tmp_path_factory.mktemp("grown")
    paths = []
    for name in WORDS:
        write_source(place / f"{name}.jsonl", [row.text for row in rows(12, 1) if row.adapter == name])
        paths += [f"--{name}-dataset", f"{name}.jsonl"]
    for number in ("1", "9"):
        write_source(
            place / f"billing-{number}.jsonl", [f"{text} {n}" for text in BILLING for n in range(int(number))]
        )
    folder = "data/claims_20250101_000000"
    with working_in(place, tiny_base):
        sizes = ("--train-samples", "8", "--eval-samples", "2", "--output-dir", folder)
        assert command("generate", *paths, *sizes) == 0
        assert command("train", "--dataset-dir", folder, "--epochs", "1", "--layers", "1,2", "--head", "linear") == 0
    return place


@pytest.fixture
def run(trained: Path, tmp_path: Path, tiny_base: Path, capsys: pytest.CaptureFixture[str]) -> Iterator[Run]:
    """Run commands in a copy of that folder."""
    shutil.copytree(trained, tmp_path, dirs_exist_ok=True)

    def run(*arguments: str) -> tuple[int, str, str]:
        code = command(*arguments)
        output = capsys.readouterr()
        return code, output.out, output.err

    with working_in(tmp_path, tiny_base):
        yield run


OLD = ("--router", "router-head.safetensors", "--dataset-dir", "data/claims_20250101_000000")


def test_an_adapter_comes_and_goes_and_hints_name_what_the_command_has(run: Run, tmp_path: Path) -> None:
    files = sorted(tmp_path.rglob("*.jsonl"))
    code, _, err = run("add-adapter", "billing", "--source", "billing-1.jsonl", *OLD)
    assert code == 3
    assert "10 rows asked, 5 usable" in err
    assert "(it needs as many as each of the others has: give more data, or" in err
    assert "allow fewer" not in err
    add = ("add-adapter", "billing", "--source", "billing-9.jsonl")
    code, _, err = run(*add, *OLD, "--output-dir", "data/claims_20250101_000000")
    assert (code, err.endswith("already exists (choose another --output-dir)\n")) == (1, True)
    code, _, err = run(*add, *OLD[:2], "--dataset-dir", "nowhere")
    assert (code, err) == (2, "moe-router: nowhere: no such folder (name the folder of a routing data set)\n")
    code, _, err = run(*add, *OLD[:2], "--dataset-dir", "cache")
    assert (code, err.count("\n"), "is this folder a routing data set?" in err) == (2, 1, True)
    code, _, err = run(*add, *OLD, "--router-out", "data/claims_20250101_000000")
    assert (code, "already exists (name another file with --router-out)" in err) == (1, True)
    code, _, err = run(*add, *OLD, "--router-out", "billing-1.jsonl/r.safetensors")
    assert (code, "billing-1.jsonl/r.safetensors: cannot write: Not a directory" in err) == (2, True)
    assert sorted(tmp_path.rglob("*.jsonl")) == files

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Application, "evaluate_router", lambda *_, **__: os.kill(os.getpid(), signal.SIGTERM))
        code, _, err = run(*add, *OLD, "--output-dir", "scored", "--router-out", "scored.safetensors")
    assert (code, (tmp_path / "scored.safetensors").is_file()) == (143, True)
    assert err.endswith("run the same command to go on)\n")
    before = {path: path.read_bytes() for path in [tmp_path / "scored.safetensors", *tmp_path.glob("scored/*")]}
    other = ("add-adapter", "other", *add[2:], *OLD, "--output-dir", "scored", "--router-out", "scored.safetensors")
    code, _, err = run(*other)
    assert (code, "scored.safetensors: already exists (name another file with --router-out)" in err) == (1, True)
    code, out, err = run(*add, *OLD, "--output-dir", "scored", "--router-out", "scored.safetensors")
    assert (code, "which an earlier run made" in err) == (0, True)
    assert "Router   scored.safetensors (an earlier run trained it)\n" in out
    assert re.search(r"^  billing +– +\d\.\d{4}", out, re.MULTILINE)
    assert re.search(r"^  share answered +\d\.\d{4}", out, re.MULTILINE)
    assert "Answers about " in out
    assert {path: path.read_bytes() for path in before} == before
    code, out, _ = run(*add, *OLD)
    assert code == 0
    told = re.match(r"Data set (data/claims_\d{8}_\d{6}): ", out)
    assert told
    assert "billing" in out
    larger = told[1]
    wrong = (*OLD[:2], "--dataset-dir", larger, "--router-out", "other.safetensors")
    code, _, err = run("add-adapter", "other", "--source", "billing-9.jsonl", *wrong)
    assert code == 3
    assert "label maps differ" in err
    assert err.endswith("(the router was trained on a data set named claims_20250101_000000)\n")
    grown = ("--router", "router-head-grown.safetensors", "--dataset-dir", larger)
    code, out, _ = run("remove-adapter", "calendar", *grown)
    assert (code, (tmp_path / "router-head-without-calendar.safetensors").is_file()) == (0, True)
    assert out.startswith("Data set data/claims_")


def test_out_of_scope_examples_are_given_again_and_survive_an_interruption(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out_of_scope = tmp_path / "no adapter's.txt"
    out_of_scope.write_text("hello there\nwhat is rain\nwho won\n")
    train = ("train", "--dataset-dir", OLD[3], "--epochs", "1", "--layers", "1,2", "--head", "linear")
    options = ("--max-tokens", "9", "--target-error", "0.3", "--out-of-scope", str(out_of_scope))
    assert run(*train, *options)[0] == 0

    score = ("evaluate", *OLD, "--no-robustness", "--out-of-scope", str(out_of_scope))
    assert "of 3 refused (prompts among the 3 that it was trained with flatter)\n" in run(*score)[1]
    assert json.loads(run(*score, "--json")[1])["out_of_scope"]["examples_remembered"] == 3
    forget = ("remove-adapter", "calendar", *OLD)
    files = sorted(tmp_path.rglob("*.jsonl"))
    code, _, err = run(*forget, "--out-of-scope", "nowhere.txt")
    assert (code, err) == (2, "moe-router: nowhere.txt: no such file\n")
    assert sorted(tmp_path.rglob("*.jsonl")) == files

    code, out, err = run(*forget, "--router-out", "lost.safetensors", "--json")
    assert (code, json.loads(out)["out_of_scope_examples"]) == (0, {"before": 3, "after": 0})
    assert err.count("warning: the old router knows 3 out-of-scope examples") == 1

    whole = TrainingLoop.run

    def interrupted(loop: TrainingLoop, *start: Any) -> Any:
        os.kill(os.getpid(), signal.SIGTERM)
        return whole(loop, *start)

    again = (*forget, "--out-of-scope", str(out_of_scope), "--router-out", "small.safetensors")
    with monkeypatch.context() as patch:
        patch.setattr(TrainingLoop, "run", interrupted)
        code, _, err = run(*again)
    assert (code, err.endswith("run the same command to go on)\n")) == (143, True)
    files = sorted(tmp_path.rglob("metadata.json"))
    code, _, err = run(*again)
    assert (code, "going on from the checkpoint" in err, "which an earlier run made" in err) == (0, True, True)
    assert sorted(tmp_path.rglob("metadata.json")) == files
    card = json.loads(run("describe", "small.safetensors", "--json")[1])
    assert (card["out_of_scope_examples"], card["max_tokens"], card["target_error"]) == (3, 9, 0.3)


def test_without_held_out_rows_the_comparison_says_what_it_was_made_on(run: Run) -> None:
    paths = [word for name in WORDS for word in (f"--{name}-dataset", f"{name}.jsonl")]
    assert run("generate", *paths, "--train-samples", "8", "--eval-samples", "0", "--output-dir", "small")[0] == 0
    assert run("train", "--dataset-dir", "small", "--epochs", "1", "--layers", "1", "--head", "linear")[0] == 0
    forget = ("remove-adapter", "calendar", *OLD[:2], "--dataset-dir", "small")
    code, out, _ = run(*forget)
    assert (code, "Recall on the prompts of val.jsonl\n" in out) == (0, True)
    told = re.search(
        r"^  (\d+) of these prompts were trained or calibrated on: the figures flatter$", out, re.MULTILINE
    )
    assert told
    assert int(told[1]) > 0
