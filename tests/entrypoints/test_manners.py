"""Manners of the command line: help without words, suggestions, completion, the configuration file, the next step."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from domain.early_stopping import Verdict
from domain.training_events import Evaluated
from entrypoints.bootstrap import Application
from entrypoints.cli import COMMANDS, main
from entrypoints.reports.training import TrainingLines, loss


@pytest.fixture
def run(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for name in ("BASE_MODEL_ID", "ROUTER_OUT", "VAL_DATA", "TRAIN_DATA", "LOG_DIR", "MOE_ROUTER_CACHE"):
        monkeypatch.delenv(name, raising=False)

    def run(*words):
        with pytest.raises(SystemExit) as ended:
            main([*map(str, words)], Application())
        captured = capsys.readouterr()
        return ended.value.code, captured.out, captured.err

    return run


def test_alone_it_prints_its_help(run):
    code, out, err = run()
    assert (code, err) == (0, "")
    assert out.startswith("Usage: moe-router")
    assert all(f"  {name} " in out for name in COMMANDS)


@pytest.mark.parametrize(
    ("words", "suggestion"),
    [(["trian"], "'train'"), (["train", "--epoch", "3"], "'--epochs'"), (["train", "--head", "kernal"], "'kernel'")],
)
def test_what_is_mistyped_gets_a_suggestion(run, words, suggestion):
    code, out, err = run(*words)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert suggestion in err


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_prints_the_script_of_a_shell(run, shell):
    code, out, _ = run("completion", shell)
    assert code == 0
    assert f"_MOE_ROUTER_COMPLETE={shell}_complete" in out


def test_a_shell_gets_commands_and_options_and_nothing_heavy_is_loaded_for_it():
    def complete(*words):
        program = (
            "import sys; from entrypoints.cli import main\ntry: main([])\nfinally: assert 'torch' not in sys.modules"
        )
        asked = {
            "_MOE_ROUTER_COMPLETE": "bash_complete",
            "COMP_WORDS": " ".join(words),
            "COMP_CWORD": str(len(words) - 1),
        }
        done = subprocess.run(
            [sys.executable, "-c", program], env=os.environ | asked, capture_output=True, text=True, check=False
        )
        assert done.stderr == ""
        return done.stdout.splitlines()

    assert complete("moe-router", "tr") == ["plain,train"]
    assert complete("moe-router", "train", "--pool") == ["plain,--pooling"]


FILE = """
base-model = "theirs"
cache = "its-cache"
modal-data-volume = "its-volume"

[train]
epochs = 7
no-cache = true

[generate.adapter]
billing = "b.jsonl"
travel = "t.jsonl"

[evaluate]
robustness = false
"""


def shown(run, *words):
    return json.loads(run("config", *words, "--json")[1])


def test_config_says_where_each_value_comes_from(run, monkeypatch):
    Path("moe-router.toml").write_text(FILE)
    monkeypatch.setenv("BASE_MODEL_ID", "of-the-environment")
    monkeypatch.setenv("MOE_ROUTER_MODAL_GPU", "A10")
    found = shown(run, "train")
    assert found["file"] == "moe-router.toml"
    assert found["settings"]["cache"] == {"value": "its-cache", "from": "moe-router.toml"}
    assert found["settings"]["modal-gpu"] == {"value": "A10", "from": "environment, MOE_ROUTER_MODAL_GPU"}
    train = found["train"]
    assert train["--epochs"] == {"value": "7", "from": "moe-router.toml"}
    assert train["--no-cache"] == {"value": True, "from": "moe-router.toml"}
    assert train["--base-model"] == {"value": "of-the-environment", "from": "environment, BASE_MODEL_ID"}
    assert train["--lr"] == {"value": 1e-4, "from": "default"}
    assert train["--dataset-dir"] == {"value": None, "from": "default"}
    everything = shown(run)
    assert everything["publish"] == {"--volume": {"value": "its-volume", "from": "moe-router.toml"}}
    assert everything["generate"]["--adapter"]["value"] == ["billing=b.jsonl", "travel=t.jsonl"]
    assert everything["evaluate"]["--robustness"]["value"] is False
    assert everything["verify"] == {}


def test_config_takes_the_flags_of_the_command_that_it_is_asked_about(run, monkeypatch):
    Path("moe-router.toml").write_text(FILE)
    monkeypatch.setenv("BASE_MODEL_ID", "of-the-environment")
    train = shown(run, "train", "--epochs", "3", "--base-model", "mine", "--no-cache", "ignored")["train"]
    assert train["--epochs"] == {"value": "3", "from": "flag"}
    assert train["--base-model"] == {"value": "mine", "from": "flag"}
    assert train["--no-cache"] == {"value": True, "from": "flag"}
    code, _, err = run("config", "train", "--epoch", "3")
    assert code == 2
    assert "'--epochs'" in err
    assert "moe-router train --help" in err


def test_the_file_is_the_folders_own_or_the_projects_or_the_one_that_is_named(run, monkeypatch):
    assert shown(run)["file"] is None
    Path("pyproject.toml").write_text("[tool.moe-router.train]\nepochs = 3\n")
    assert shown(run)["file"] == "pyproject.toml"
    Path("moe-router.toml").write_text("[train]\nepochs = 4\n")
    assert shown(run)["train"]["--epochs"]["value"] == "4"
    Path("other.toml").write_text("[train]\nepochs = 5\n")
    monkeypatch.setenv("MOE_ROUTER_CONFIG", "other.toml")
    assert shown(run)["train"]["--epochs"]["value"] == "5"
    assert json.loads(run("--config", "pyproject.toml", "config", "--json")[1])["train"]["--epochs"]["value"] == "3"


def test_a_command_takes_the_files_values_and_flags_go_before_them(run):
    Path("b.jsonl").write_text(
        "".join(json.dumps({"prompt": f"refund invoice {n}", "completion": "x"}) + "\n" for n in range(12))
    )
    Path("t.jsonl").write_text(
        "".join(json.dumps({"prompt": f"fly to town {n}", "completion": "x"}) + "\n" for n in range(12))
    )
    Path("moe-router.toml").write_text(
        '[generate]\ntrain-samples = 8\neval-samples = 2\nadapter = ["billing=b.jsonl", "travel=t.jsonl"]\n'
    )
    made = json.loads(run("generate", "--output-dir", "a", "--json")[1])
    assert made["per_adapter"] == {"train": 8, "eval": 2}
    made = json.loads(run("generate", "--output-dir", "b", "--json", "--train-samples", "10")[1])
    assert made["per_adapter"] == {"train": 10, "eval": 2}
    assert json.loads(run("generate", "--test", "--output-dir", "c", "--json")[1])["per_adapter"]["train"] == 1


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("[train]\nepoks = 3", "[train] has the unknown key 'epoks' (did you mean 'epochs'?)"),
        ("[serve]\nprot = 3", "[serve] has the unknown key 'prot' (did you mean 'port'?)"),
        ("trian = 3", "unknown key 'trian' (did you mean 'train'?)"),
        ("train = 3", "'train' is a command"),
        ("[train]\nepochs = true", "epochs is True, expected a text or a number"),
        ("[train]\nno-cache = 1", "no-cache is 1, expected true or false"),
        ("[train]\nepochs = 'x'", "'x' is not a valid integer"),
        ("[generate]\nadapter = 'a=b'", "adapter may be given several times"),
        ("x =", "not TOML"),
        ("modal-timeout = 'soon'", "MOE_ROUTER_MODAL_TIMEOUT='soon' is not a number of seconds"),
    ],
)
def test_what_is_wrong_in_the_file_is_one_line_that_names_it(run, content, says):
    Path("moe-router.toml").write_text(content)
    words = ["generate"] if "generate" in content else ["config"] if "soon" in content else ["train"]
    code, out, err = run(*words)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert says in err
    assert "moe-router.toml" in err or "MODAL_TIMEOUT" in err


def test_a_command_ends_with_the_next_step_unless_a_program_reads_it(run):
    code, _, err = run("generate", "--test", "--output-dir", "my data")
    assert (code, err.splitlines()[-1]) == (0, "Next: moe-router verify 'my data'")
    assert run("verify", "my data")[2] == "Next: moe-router train --dataset-dir 'my data'\n"
    assert run("verify", "my data", "--json")[2] == ""


def test_training_tells_of_what_is_new_and_of_nothing_else():
    lines = []
    observer = TrainingLines(lines.append)
    for step, verdict in enumerate(
        (Verdict.IMPROVED, Verdict.WAITING, Verdict.WAITING, Verdict.IMPROVED, Verdict.WAITING)
    ):
        observer.on_event(Evaluated(20 * step, 1, 0.1, 0.9, 0.00002, 0.9, 1e-4, verdict))
    assert lines == [
        "Step     0: eval_loss=2.0e-05 eval_acc=0.9000 | start, before the first step",
        "Step    60: eval_loss=2.0e-05 eval_acc=0.9000 | ✓ improved",
    ]


def test_small_losses_are_not_shown_as_zeros():
    assert [loss(value) for value in (0.0, 0.25, 0.0001, 0.00004, float("inf"))] == [
        "0.0000", "0.2500", "0.0001", "4.0e-05", "inf",
    ]  # fmt: skip


def test_the_demo_keeps_nothing_only_where_no_folder_is_named(run):
    code, _, err = run("demo", "--no-keep", "--output-dir", "d")
    assert (code, err.count("\n")) == (2, 1)
    assert "--output-dir keeps what the demo makes" in err


def test_the_demo_serves_what_it_made_and_then_keeps_nothing(run, monkeypatch):
    from entrypoints.cli import demo, serve

    made = []

    def router(_app, _console, _dataset, folder):
        made.append(folder)
        folder.mkdir(parents=True)
        return folder / "router-head.safetensors"

    monkeypatch.setattr(demo, "_train", router)
    for step in ("_generate", "_evaluate", "_finetune", "_answer", "_compare"):
        monkeypatch.setattr(demo, step, lambda *_: None)
    served = []
    monkeypatch.setattr(serve, "_serve", lambda _app, options: served.append((options, made[0].exists())))
    code, out, err = run("demo", "--no-keep", "--serve", "--port", "0")
    assert (code, err) == (0, "")
    ((options, there),) = served
    assert (options.router, options.lora_dir, options.port) == (
        made[0] / "router-head.safetensors",
        made[0] / "loras",
        0,
    )
    assert there
    assert not made[0].exists()
    assert "nothing of it is kept" in out
    assert f"moe-router serve --router {options.router}" in out
