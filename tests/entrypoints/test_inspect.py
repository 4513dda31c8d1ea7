"""``inspect`` as users meet it."""

import json
import warnings

import pytest

from entrypoints.cli import main
from tests.dataset_world import NAMES, rows_of


@pytest.fixture
def run(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)

    def run(*argv):
        with pytest.raises(SystemExit) as caught:
            main([*map(str, argv)])
        output = capsys.readouterr()
        return caught.value.code, output.out, output.err

    for name in NAMES:
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows_of(name, 30)))
    paths = [part for name in NAMES for part in (f"--{name}-dataset", f"{name}.jsonl")]
    assert run("generate", *paths, "--train-samples", 10, "--eval-samples", 5, "--output-dir", "out")[0] == 0
    return run


def test_the_report_tells_counts_words_and_pairs(run):
    code, out, err = run("inspect", "out", "--pairs", 2, "--threshold", "0.3")
    assert (code, err) == (0, "Next: moe-router train --dataset-dir out\n")
    assert "  calendar              8      2      5 " in out
    assert "claim-window     claim" in out
    assert "calendar / claim-window: " in out
    assert "pairs" not in (strict := run("inspect", "out", "--threshold", "1.0")[1])
    assert strict.endswith("(similarity ≥ 1):\n  none\n")
    code, out, _ = run("inspect", "out", "--json", "--words", 1)
    report = json.loads(out)
    assert report["adapters"]["calendar"]["samples"] == {"train": 8, "val": 2, "eval": 5}
    assert report["adapters"]["calendar"]["telling_words"][0]["word"] == "calendar"
    assert len(report["near_duplicate_counts"]) == 3


def test_plots_are_a_png(run, tmp_path):
    code, out, err = run("inspect", "out", "--plots", "look.png", "--json")
    assert (code, err) == (0, "Saved plots to look.png\n")
    json.loads(out)
    assert (tmp_path / "look.png").read_bytes().startswith(b"\x89PNG\r\n")
    code, _, err = run("inspect", "out", "--plots", "look.png/where.png")
    assert (code, err.startswith("moe-router: look.png/where.png: cannot write")) == (1, True)


def test_a_data_set_of_one_adapter_is_drawn_without_a_warning(run, tmp_path):
    options = ["--train-samples", 10, "--eval-samples", 5, "--output-dir", "one"]
    assert run("generate", "--adapter", "a=calendar.jsonl", *options)[0] == 0
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        code, _, err = run("inspect", "one", "--plots", "one.png")
    assert (code, err) == (0, "Saved plots to one.png\nNext: moe-router train --dataset-dir one\n")
    assert (tmp_path / "one.png").read_bytes().startswith(b"\x89PNG\r\n")


def test_a_missing_folder_is_one_line(run):
    code, out, err = run("inspect", "nowhere")
    assert (code, out, err.count("\n")) == (2, "", 1)
