"""``generate`` and ``verify`` as users meet them: what they print, what they refuse, and with which exit code."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from entrypoints.cli import main
from tests.dataset_world import NAMES, rows_of


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in NAMES:
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows_of(name, 260)))
    return tmp_path


@pytest.fixture
def run(here, capsys):
    def run(*argv):
        with pytest.raises(SystemExit) as caught:
            main([*map(str, argv)])
        output = capsys.readouterr()
        return caught.value.code, output.out, output.err

    return run


PATHS = [part for name in NAMES for part in (f"--{name}-dataset", f"{name}.jsonl")]

GUIDE = """\
======================================================================
Generating Routing Dataset: routing
======================================================================
Output directory: datasets/routing_custom
Train samples per adapter: 200
Eval samples per adapter: 50
Train/val split: 80%/20%
Random seed: 42
======================================================================

Loading calendar (label=0)...
  calendar              -> train= 200, eval= 50
Loading claim-window (label=1)...
  claim-window          -> train= 200, eval= 50
Loading provider-select (label=2)...
  provider-select       -> train= 200, eval= 50

Total samples:
  Training: 480
  Validation: 120
  Eval: 150
"""
GUIDE_END = """\
  Saved 600 samples to data.jsonl
  Saved 480 samples to train.jsonl
  Saved 120 samples to val.jsonl
  Saved 150 samples to eval.jsonl
  Saved metadata to metadata.json

======================================================================
Dataset generation complete!
======================================================================
"""


def test_the_guides_full_example_prints_what_the_guide_shows(run, here):
    options = ["--train-samples", 200, "--eval-samples", 50, "--output-dir", "datasets/routing_custom", "--seed", 42]
    code, out, err = run("generate", *PATHS, "--prefix", "routing", "--train-val-split", 0.8, *options)
    assert (code, err) == (0, "Next: moe-router verify datasets/routing_custom\n")
    assert out.startswith(GUIDE)
    assert out.endswith(GUIDE_END)
    assert "calendar              260 seen, 250 drawn, 250 kept, 0 rejected, 10 not drawn" in out
    assert len((here / "datasets/routing_custom/train.jsonl").read_text().splitlines()) == 480


def test_the_smoke_test_needs_no_paths(run, here):
    code, out, _ = run("generate", "--test")
    assert code == 0
    assert out.startswith("Running in TEST mode (1 sample per adapter)\n====")
    assert re.search(r"Output directory: datasets/routing_test_\d{8}_\d{6}\n", out)
    assert "  calendar              -> train=   1, eval=  1\n" in out
    assert "  Training: 2\n  Validation: 1\n  Eval: 3\n" in out
    (made,) = (here / "datasets").iterdir()
    sources = json.loads((made / "metadata.json").read_text())["adapters"]
    assert all(one["source_dataset"].endswith(f"sample_sources/{name}.jsonl") for name, one in sources.items())


def test_the_smoke_test_takes_paths_prefix_and_other_adapters(run):
    code, out, _ = run("generate", "--test", "--calendar-dataset", "calendar.jsonl", "--prefix", "mine", "--json")
    report = json.loads(out)
    assert (code, report["samples"]) == (0, {"train": 2, "val": 1, "eval": 3})
    assert report["path"].startswith("datasets/mine_")
    assert report["accounting"]["calendar"]["lines"] == 260
    code, out, _ = run(
        "generate", "--test", "--adapter", "x=calendar.jsonl", "--adapter", "y=claim-window.jsonl", "--json"
    )
    assert json.loads(out)["labels"] == {"x": 0, "y": 1}


def test_the_smoke_test_takes_numbers_too(run):
    code, out, _ = run("generate", "--test", "--train-samples", 5, "--eval-samples", 0)
    assert code == 0
    assert out.startswith("Running in TEST mode (5 samples per adapter)\n")
    assert "  calendar              -> train=   5, eval=  0\n" in out


def test_file_names_that_are_no_text_can_be_told_and_stored(run, here):
    source, target = os.fsdecode(b"caf\xe9.jsonl"), os.fsdecode(b"out\xff")
    (here / "calendar.jsonl").rename(here / source)
    with (here / source).open("a") as file:
        file.write('{"conversations": [{"from": "human", "value": "without an id"}]}\n{\n')
    options = ["--train-samples", 261, "--eval-samples", 0, "--output-dir", target, "--validate"]
    for argv in (["generate", "--adapter", f"a={source}", *options], ["verify", target], ["inspect", target]):
        code, out, _ = run(*argv)
        assert code == 0
        assert "out\\xff" in out
        code, out, _ = run(*argv, "--json", *(["--force"] if argv[0] == "generate" else []))
        assert (code, json.loads(out)["path"]) == (0, "out\\xff")
    assert '"source_dataset": "caf\\\\xe9.jsonl"' in (here / target / "metadata.json").read_text()


def test_other_adapters_get_their_labels_in_the_order_given(run):
    pairs = [part for name in reversed(NAMES) for part in ("--adapter", f"{name}={name}.jsonl")]
    code, out, _ = run("generate", *pairs, "--output-dir", "out", "--json")
    assert code == 0
    assert json.loads(out)["labels"] == {name: label for label, name in enumerate(reversed(NAMES))}


def test_mapped_sources_are_named_in_their_own_file(run, here):
    (here / "dataset_info.json").write_text(
        json.dumps({"cal": {"file_name": "calendar.jsonl", "formatting": "sharegpt"}})
    )
    sources = ["--adapter", "a=cal", "--adapter", "b=claim-window.jsonl"]
    code, out, _ = run("generate", *sources, "--dataset-info", "dataset_info.json", "--output-dir", "out", "--json")
    assert (code, json.loads(out)["accounting"]["a"]["kept"]) == (0, 200)


def test_the_same_command_gives_the_same_bytes(run, here):
    for name in ("one", "two"):
        assert run("generate", *PATHS, "--output-dir", name)[0] == 0
    for file in (here / "one").iterdir():
        if file.name != "metadata.json":
            assert file.read_bytes() == (here / "two" / file.name).read_bytes()
    metadata = [json.loads((here / name / "metadata.json").read_text()) for name in ("one", "two")]
    assert metadata[0].pop("created_at") != metadata[1].pop("created_at")
    assert metadata[0] == metadata[1]


@pytest.mark.parametrize(
    ("argv", "code", "line"),
    [
        (
            [],
            2,
            "no adapter's training data is named (--adapter NAME=PATH for each; or --calendar-dataset, --claim-w",
        ),
        (PATHS[:4], 2, "missing --provider-select-dataset (or --adapter NAME=PATH"),
        (["--adapter", "calendar.jsonl"], 2, "is not NAME=PATH"),
        (["--adapter", "a="], 2, "is not NAME=PATH"),
        (["--adapter", "it", "data/it.jsonl"], 2, "--adapter 'it' is not NAME=PATH (for example --adapter billing="),
        (["--adapter", "a/b=calendar.jsonl"], 2, "adapter name 'a/b' is not allowed"),
        (["--adapter", "a=calendar.jsonl", "--adapter", "a=x"], 2, "x: no such file"),
        (
            ["--adapter", "a=calendar.jsonl", *PATHS[:2]],
            2,
            "--adapter and --calendar-dataset cannot be used together",
        ),
        ([*PATHS, "--prefix", "../../x"], 2, "prefix '../../x'"),
        ([*PATHS, "--train-samples", "0"], 2, "train-samples 0 is below 1"),
        ([*PATHS, "--force"], 2, "--force needs --output-dir"),
        (["--adapter", "a=none.jsonl"], 2, "none.jsonl: no such file"),
        ([*PATHS, "--dataset-info", "calendar.jsonl"], 3, "calendar.jsonl: is not JSON"),
        ([*PATHS, "--train-samples", "1000"], 3, "adapter 'calendar': 1100 rows asked, 260 usable in 260 lines"),
        (
            [*PATHS, "--train-samples", "1000"],
            3,
            "(--train-samples N, --eval-samples N), or allow fewer (--allow-fewer): ",
        ),
        ([*PATHS, "--line-limit", "0"], 2, "line-limit is below 1 byte"),
        ([*PATHS, "--output-dir", "calendar.jsonl"], 1, "calendar.jsonl: already exists"),
        ([*PATHS, "--output-dir", "."], 1, ".: already exists"),
        ([*PATHS, "--output-dir", "/", "--force"], 1, "/: already exists"),
        ([*PATHS, "--output-dir", "x/..", "--force"], 1, "x/..: already exists"),
        ([*PATHS, "--output-dir", "calendar.jsonl", "--force"], 1, "calendar.jsonl: is not a folder"),
        ([*PATHS, "--output-dir", "calendar.jsonl/out"], 1, "calendar.jsonl/out: cannot write"),
    ],
)
def test_what_cannot_be_done_is_one_line_and_leaves_nothing(run, here, argv, code, line):
    before = sorted(one.name for one in here.iterdir())
    found, out, err = run("generate", *argv)
    assert (found, out) == (code, "")
    assert err.startswith("moe-router: ")
    assert line in err
    assert err.count("\n") == 1
    assert sorted(one.name for one in here.iterdir()) == before


def test_force_is_offered_only_where_it_would_help(run, here):
    options = ["--train-samples", 2, "--eval-samples", 0, "--output-dir"]
    assert run("generate", *PATHS, *options, "out")[0] == 0
    (here / "other").mkdir()
    (here / "other" / "notes").write_text("mine")
    code, _, err = run("generate", *PATHS, *options, "out")
    assert (code, err) == (1, "moe-router: out: already exists (choose another --output-dir, or --force)\n")
    code, _, err = run("generate", *PATHS, *options, "other")
    assert (code, err) == (1, "moe-router: other: already exists (choose another --output-dir)\n")
    assert run("generate", *PATHS, *options, "out", "--force")[0] == 0


@pytest.mark.parametrize("as_json", [[], ["--json"]])
def test_a_single_adapter_gets_a_note(run, here, as_json):
    options = ["--train-samples", 2, "--eval-samples", 0, *as_json]
    code, out, err = run("generate", "--adapter", "a=calendar.jsonl", *options)
    assert code == 0
    assert err.startswith("note: a is the only adapter; a router needs two or more to choose from\n")
    assert out
    assert "note:" not in run("generate", *PATHS, *options)[2]


def test_shapes_are_mixed_in_one_command_and_the_report_says_how_each_was_read(run, here):
    (here / "array.json").write_text(json.dumps(rows_of("a", 3), indent=1))
    (here / "more.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows_of("more", 3)))
    (here / "b.csv").write_text("utterance,intent\n" + "".join(f"pay {n},2\n" for n in range(6)))
    sources = ["--adapter", "a=array.json", "--adapter", "b=b.csv", "--adapter", "a=more.jsonl"]
    options = ["--train-samples", 4, "--eval-samples", 2, "--output-dir", "out"]
    code, _, err = run("generate", *sources, *options)
    assert code == 3
    assert "read as CSV; its columns: utterance, intent. Say which holds the prompt: --columns b:prompt=COLUMN" in err
    err = run("generate", *sources, "--adapter", "c=b.csv", *options)[2]
    assert "b:prompt=COLUMN" in err
    assert "c:prompt=COLUMN" in err
    for value in ("c:prompt=utterance", "b:prompt", "b:prompts=utterance"):
        assert run("generate", *sources, *options, "--columns", value)[0] == 2
    code, out, _ = run("generate", *sources, *options, "--columns", "b:prompt=utterance")
    assert code == 0
    assert "  read as 1 × JSON array, 1 × JSON Lines; ShareGPT: conversations" in out
    assert "  read as CSV; plain columns: utterance" in out
    metadata = json.loads((here / "out" / "metadata.json").read_text())
    assert metadata["accounting"]["a"]["kept"] == metadata["accounting"]["a"]["lines"] == 6
    assert metadata["options"]["more_sources"] == {"a": ["more.jsonl"], "b": []}


@pytest.mark.parametrize(("turn", "text"), [("first", "one"), ("last", "one\ntwo"), ("all", "one\ntwo")])
def test_the_turns_to_route_by_can_be_chosen(run, here, turn, text):
    turns = [{"from": "human", "value": "one"}, {"from": "gpt", "value": "x"}, {"from": "human", "value": "two"}]
    (here / "a.jsonl").write_text(json.dumps({"conversations": turns}))
    options = ["--train-samples", 1, "--eval-samples", 0, "--output-dir", "out", "--turn", turn]
    assert run("generate", "--adapter", "a=a.jsonl", *options)[0] == 0
    assert json.loads((here / "out" / "data.jsonl").read_text())["text"] == text


def test_home_is_known_in_name_and_path(run, here, monkeypatch):
    monkeypatch.setenv("HOME", str(here))
    assert run("generate", "--adapter", "a=~/calendar.jsonl", "--output-dir", "out")[0] == 0


def test_strict_stops_with_file_and_line(run, here):
    with (here / "calendar.jsonl").open("a") as file:
        file.write("{broken\n")
    code, _, err = run("generate", *PATHS, "--strict")
    assert code == 3
    assert "calendar.jsonl: line 261: invalid-json: " in err
    code, out, _ = run("generate", *PATHS, "--validate", "--output-dir", "out")
    assert code == 0
    assert "calendar              260 of 261 usable (1 invalid-json)" in out
    assert "Saved the first 1 rejected lines to rejects.jsonl" in out


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_ends_the_run_and_leaves_nothing(here, number, code):
    command = [sys.executable, "-m", "entrypoints", "generate", "--adapter", "a=-", "--output-dir", "sets/out"]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    pipes = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
    with subprocess.Popen(command, env=environment, **pipes) as process:
        while not list(here.glob("sets/.out.*")):
            assert process.poll() is None
            time.sleep(0.01)
        process.send_signal(number)
        out, err = process.communicate()
    assert (process.returncode, out) == (code, b"")
    assert err == b"moe-router: interrupted (run the same command again)\n"
    assert not (here / "sets").exists()


def test_verify_passes_and_fails_with_exit_code_3(run, here):
    run("generate", *PATHS, "--output-dir", "out")
    code, out, _ = run("verify", "out")
    assert (code, out.splitlines()[-1]) == (0, "✓ The data set can be trusted.")
    with (here / "out" / "val.jsonl").open("a") as file:
        file.write((here / "out" / "train.jsonl").read_text().splitlines()[0] + "\n")
    code, out, _ = run("verify", "out")
    assert code == 3
    assert "✗ no text in two splits" in out
    code, out, _ = run("verify", "out", "--json")
    report = json.loads(out)
    assert (code, report["passed"]) == (3, False)
    assert {one["name"] for one in report["checks"] if one["outcome"] == "failed"} >= {
        "counts",
        "no text in two splits",
    }
    assert run("verify", "nowhere")[0] == 2


def test_the_data_set_loads_with_hugging_face_datasets(run, here, monkeypatch):
    monkeypatch.setenv("HF_DATASETS_OFFLINE", "1")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    datasets = pytest.importorskip("datasets")
    run("generate", *PATHS, "--output-dir", "out")
    plain = datasets.load_dataset(
        "json", data_files={"train": "out/train.jsonl", "val": "out/val.jsonl"}, cache_dir=here / "cache"
    )
    assert plain["train"].column_names == ["text", "label", "adapter", "source_id"]
    card = datasets.load_dataset(os.fspath(here / "out"), cache_dir=here / "cache2")
    assert {name: part.num_rows for name, part in card.items()} == {"train": 240, "validation": 60, "test": 300}
    assert card["train"].features["label"].names == list(NAMES)
    row = card["test"][0]
    assert card["test"].features["label"].int2str(row["label"]) == row["adapter"]


def test_reference_answers_are_kept_unless_they_are_not_wanted(run, here):
    (here / "a.jsonl").write_text(
        '{"utterance": "Open", "reply": "Done."}\n{"utterance": "Close", "reply": "Shut."}\n'
    )
    (here / "b.jsonl").write_text('{"utterance": "Sing", "reply": "La."}\n{"utterance": "Hum", "reply": ""}\n')
    options = ["--train-samples", 1, "--eval-samples", 1, "--seed", 1, "--columns", "prompt=utterance,answer=reply"]
    given = ["--adapter", "a=a.jsonl", "--adapter", "b=b.jsonl", *options]
    code, out, _ = run("generate", *given, "--output-dir", "with")
    kept = [json.loads(line) for line in Path("with/eval-answers.jsonl").read_text().splitlines()]
    assert code == 0
    assert f"{len(kept)} of 2 in eval-answers.jsonl" in out
    known = {"Open": "Done.", "Close": "Shut.", "Sing": "La."}
    assert {one["text"]: one["answer"] for one in kept}.items() <= known.items()
    code, out, _ = run("generate", *given, "--output-dir", "without", "--no-answers")
    assert (code, Path("without/eval-answers.jsonl").exists()) == (0, False)
    assert "Reference answers" not in out
