"""``train`` and ``tensorboard`` as users meet them: processes, exit codes, lines, files."""

from __future__ import annotations

import json
import math
import os
import re
import signal
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from typing import Any

import pytest
from attrs import evolve
from safetensors.numpy import load_file

from adapters.router.torch_heads import TorchHeadSession
from entrypoints.bootstrap import Application
from entrypoints.cli import main
from entrypoints.on_modal import places
from entrypoints.wiring import training
from tests.training_world import COMPANIONS, rows

ROOT = Path(__file__).parents[2]
OPTIONS = [
    "--epochs",
    "4",
    "--eval-steps",
    "3",
    "--patience",
    "100",
    "--lr",
    "0.01",
    "--head",
    "mlp",
    "--layers",
    "1,2",
]

QUICK = ["--epochs", "1", "--head", "linear", "--layers", "1"]


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    folder = tmp_path / "ds"
    folder.mkdir()
    for name, per_adapter, seed in (("train", 10, 1), ("val", 4, 2)):
        lines = [
            {"text": row.text, "label": row.label, "adapter": row.adapter, "source_id": row.source_id}
            for row in rows(per_adapter, seed)
        ]
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return folder


@pytest.fixture
def place(tmp_path: Path, tiny_base: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(training, "packaged_companions", lambda: COMPANIONS)  # few, so that training is quick
    monkeypatch.setattr(places, "MOUNTS", ("/",))
    monkeypatch.setenv("BASE_MODEL_ID", str(tiny_base))
    monkeypatch.setenv("MOE_ROUTER_CACHE", str(tmp_path / "cache"))
    for name in ("TRAIN_DATA", "VAL_DATA", "ROUTER_OUT", "LOG_DIR"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


def run(*arguments: str) -> int:
    with pytest.raises(SystemExit) as ended:
        main(list(arguments))
    return int(ended.value.code or 0)


def test_train_prints_the_guides_lines_saves_the_router_and_logs(
    place: Path, dataset: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("train", "--dataset-dir", str(dataset), "--epochs", "2", "--eval-steps", "4", "--lr", "1e-3") == 0
    out, err = capsys.readouterr()
    assert out.startswith("✅ Router head saved to router-head.safetensors\n")
    for line in (
        "Router Training Configuration",
        "  Train samples: 30",
        "  Eval samples: 12",
        "  Max epochs: 2",
        "  Batch size: 8",
        "  Initial learning rate: 0.001",
        "  Eval every N steps: 4",
        "  Patience (evals): 5",
        "  Min delta: 0.001",
        "  LR reduction factor: 0.5",
        "  Max LR reductions: 5",
        "  Min LR: 5e-08",
        "TensorBoard logs: runs/tensorboard/router_",
        "← chosen",
        "Step     0: eval_loss=",
        "⏹️  Stopping: all 2 epochs are done",
        "   Best eval_loss: ",
        " (kept at step ",
    ):
        assert line in err, line
    assert (place / "router-head.safetensors").is_file()
    assert list(place.glob("runs/tensorboard/router_*/events.*"))
    assert not list(place.glob("*.checkpoint"))


def test_train_reports_json_and_the_environment_names_the_output(
    place: Path, dataset: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("ROUTER_OUT", "deep/folder/r.safetensors")
    monkeypatch.setenv("LOG_DIR", "logs")
    assert run("train", "--dataset-dir", str(dataset), *OPTIONS, "--json", "--no-cache", "--pooling", "last") == 0
    report = json.loads(capsys.readouterr().out)
    assert report["router"] == "deep/folder/r.safetensors"
    assert Path(report["router"]).is_file()
    assert report["log_dir"].startswith("logs/router_")
    assert (report["layers"], report["pooling"], report["head"]) == ([1, 2], "last", "mlp")
    assert report["labels"] == {"calendar": 0, "claim-window": 1, "provider-select": 2}
    assert report["steps"] % 4 == 0  # of 4 epochs
    assert not (place / "cache/features").exists()


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["--dataset-dir", "nowhere"], 2, "nowhere/train.jsonl"),
        (["--lr", "-1"], 2, "learning rate"),
        (["--lr", "1e38"], 2, "learning rate 1e+38 is above 1e+30"),
        (["--patience", "0"], 2, "patience 0"),
        (["--layers", "one"], 2, "--layers 'one'"),
        (["--layers", "99"], 2, "99"),
        (["--base-model", "no/such/folder/here"], 2, "no/such/folder/here"),
        (["--gpu", "L4"], 2, "--gpu"),
        (["--backend", "modal", "--encode-shards", "2", "--no-cache"], 2, "leave out --no-cache or --encode-shards"),
        (["--backend", "modal", "--encode-shards", "2", "--no-cache", "--detach"], 2, "--no-cache"),
        (["--backend", "modal", "--encode-shards", "0"], 2, "--encode-shards 0 is below 1"),
        (["--out-of-scope", "missing.jsonl"], 2, "missing.jsonl"),
        (["--router-out", "data.txt"], 2, "data.txt"),
        (["--layers", "-1,2"], 2, "layer -1 is negative"),
        (["--router-out", "ds/train.jsonl/x.safetensors"], 2, "train.jsonl"),
        (["--router-out", "/proc/r.safetensors"], 2, "/proc/r.safetensors: cannot write"),
        (["--router-out", "x" * 300 + ".pt"], 2, "cannot write: File name too long"),
        (["--router-out", "ds"], 1, "ds: is not replaced: it holds"),
    ],
)
def test_what_cannot_be_done_is_one_line_with_its_exit_code_and_leaves_nothing(
    place: Path, dataset: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], code: int, words: str
) -> None:
    assert run("train", "--dataset-dir", str(dataset), *arguments) == code
    out, err = capsys.readouterr()
    assert out == ""
    last = err.strip().splitlines()[-1]
    assert last.startswith("moe-router: ")
    assert words in last
    assert sorted(path.name for path in place.iterdir() if path.name not in ("ds", "cache")) == []


@pytest.mark.parametrize("arguments", [["--router-out", "ds/train.jsonl/x"], ["--layers", "99"], ["--layers", "4"]])
def test_what_cannot_be_done_is_known_before_anything_is_encoded(
    place: Path, dataset: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str]
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise AssertionError("weights were loaded")

    monkeypatch.setattr("adapters.base_model.transformers_base._weights", fail)
    if arguments == ["--layers", "4"]:  # the tiny model has it
        with pytest.raises(AssertionError, match="weights were loaded"):
            main(["train", "--dataset-dir", str(dataset), *arguments])
    else:
        assert run("train", "--dataset-dir", str(dataset), *arguments) == 2


@pytest.mark.parametrize("arguments", [["--router-out", "ds/train.jsonl/x"], ["--dataset-dir", "nowhere"]])
def test_paths_that_cannot_be_used_are_known_before_the_trainer_is_there(
    place: Path, dataset: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str]
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise AssertionError("the trainer was made")

    monkeypatch.setattr(Application, "train_router", fail)
    assert run("train", "--dataset-dir", str(dataset), *arguments) == 2


def test_an_earlier_router_is_replaced_with_a_note(
    place: Path, dataset: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    note = "note: {} already and {} replaced when the new router is complete"
    train = ("train", "--dataset-dir", str(dataset), *QUICK, "--no-cache")
    assert run(*train) == 0
    assert "note: " not in capsys.readouterr().err
    first = (place / "router-head.safetensors").read_bytes()
    assert run(*train, "--seed", "43") == 0
    lines = capsys.readouterr().err.splitlines()
    told = note.format("router-head.safetensors is there", "is")
    assert lines.count(told) == 1
    assert lines.index(told) < next(number for number, line in enumerate(lines) if line.startswith("Step "))
    assert (place / "router-head.safetensors").read_bytes() != first
    (place / "router-head.pt").write_bytes(b"other")
    assert run(*train, "--router-out", "router-head.pt") == 0
    assert note.format("router-head.safetensors and router-head.pt are there", "are") in capsys.readouterr().err


def test_data_that_cannot_train_exits_3_and_leaves_nothing(
    place: Path, dataset: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (dataset / "val.jsonl").write_text('{"text": "x", "label": 1, "adapter": "calendar", "source_id": "1"}\n')
    assert run("train", "--dataset-dir", str(dataset)) == 3
    assert "label maps differ" in capsys.readouterr().err
    assert [path.name for path in place.iterdir()] == ["ds"]


def test_a_pt_router_lies_beside_the_one_that_is_read_back_and_validation_may_lack_an_adapter(
    place: Path, dataset: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    kept = [line for line in (dataset / "val.jsonl").read_text().splitlines() if '"label": 2' not in line]
    (dataset / "val.jsonl").write_text("\n".join(kept))
    pipe, end = os.pipe()  # as a shell's <(…) is: it can be read once
    os.write(end, b"how tall is a giraffe\nsing me a song\n")
    os.close(end)
    command = ["--dataset-dir", str(dataset), *QUICK, "--router-out", "r.pt", "--out-of-scope", f"/dev/fd/{pipe}"]
    assert run("train", *command) == 0
    out, err = capsys.readouterr()
    assert out.startswith("✅ Router head saved to r.safetensors\n")
    assert "no validation rows for provider-select" in err
    assert "  Out-of-scope samples: 2\n" in err
    assert (place / "r.pt").is_file()
    assert run("describe", "r.safetensors") == 0
    assert "features of 2 out-of-scope examples" in capsys.readouterr().out


def test_a_run_that_diverges_exits_4_and_keeps_the_best_router_so_far(
    place: Path, dataset: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    train = ("train", "--dataset-dir", str(dataset), *OPTIONS, "--lr", "1e30", "--router-out")
    assert run(*train, "r.safetensors") == 4
    out, err = capsys.readouterr()
    assert out == ""
    lines = err.splitlines()
    (stopped,) = (line for line in lines if line.startswith("⏹️"))
    assert "is not finite" in stopped
    told = re.fullmatch(
        r"moe-router: training diverged: the loss at step \d+ is not finite; the best router so far "
        r"\(eval_loss (\S+)\) is in r\.safetensors \(try a lower learning rate\)",
        lines[-1],
    )
    assert told, lines[-1]
    assert any(f"Best eval_loss: {told[1]}, " in line and "(kept at step " in line for line in lines)
    assert run("describe", "r.safetensors") == 0
    assert not list(place.glob("*.checkpoint"))


def test_a_run_without_any_finite_loss_exits_4_and_writes_no_router(
    place: Path, dataset: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    plain = TorchHeadSession.evaluate
    monkeypatch.setattr(TorchHeadSession, "evaluate", lambda self: evolve(plain(self), loss=math.nan))
    assert run("train", "--dataset-dir", str(dataset), *OPTIONS, "--lr", "1e30") == 4
    out, err = capsys.readouterr()
    assert out == ""
    assert err.splitlines()[-1].endswith(
        "; no router was saved: no evaluation had a finite loss (try a lower learning rate)"
    )
    assert sorted(path.name for path in place.iterdir()) == ["cache", "ds", "runs"]


def test_an_unwritable_log_folder_costs_one_warning(
    place: Path, dataset: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (place / "taken").write_text("a file")
    assert run("train", "--dataset-dir", str(dataset), *QUICK, "--log-dir", "taken/logs") == 0
    assert capsys.readouterr().err.count("no TensorBoard logs") == 1
    assert (place / "router-head.safetensors").is_file()


def signalled_at(monkeypatch: pytest.MonkeyPatch, at_step: int, number: int) -> None:
    """Make this process signal itself in its `at_step`-th training step."""
    plain, count = TorchHeadSession.train_step, [0]

    def step(self: TorchHeadSession, rows: Any) -> Any:
        count[0] += len(rows) <= 8
        if count[0] == at_step:
            count[0] += 1000
            os.kill(os.getpid(), number)
        return plain(self, rows)

    monkeypatch.setattr(TorchHeadSession, "train_step", step)


def killed_at(at_step: int, *arguments: str) -> int:
    """Run a command in a forked process that kills itself in a training step; return the signal that ended it."""
    child = os.fork()
    if not child:
        signalled_at(pytest.MonkeyPatch(), at_step, signal.SIGKILL)
        try:
            run(*arguments)
        finally:
            os._exit(1)
    return os.WTERMSIG(os.waitpid(child, 0)[1])


def tensors(path: Path) -> dict[str, Any]:
    return {name: (value.dtype, value.tobytes()) for name, value in load_file(path).items()}


def test_killed_and_terminated_then_run_again_ends_in_the_same_bits(
    place: Path, dataset: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["--dataset-dir", str(dataset), *OPTIONS, "--router-out"]
    before = signal.getsignal(signal.SIGINT)  # ignored where a shell started the tests in the background
    assert run("train", *command, "whole.safetensors") == 0
    assert killed_at(5, "train", *command, "r.safetensors") == signal.SIGKILL
    assert (place / "r.safetensors.checkpoint").is_dir()
    assert not (place / "r.safetensors").exists()
    for number, at_step, resumed_from in ((signal.SIGTERM, 4, 3), (signal.SIGINT, 2, 7)):
        with monkeypatch.context() as patch:
            signalled_at(patch, at_step, number)
            capsys.readouterr()
            assert run("train", *command, "r.safetensors") == 128 + number
        err = capsys.readouterr().err
        assert f"going on from the checkpoint at step {resumed_from}" in err
        assert "run the same command to go on" in err.splitlines()[-1]
    assert run("train", *command, "r.safetensors") == 0
    assert "going on from the checkpoint at step 9" in capsys.readouterr().err
    assert tensors(place / "r.safetensors") == tensors(place / "whole.safetensors")
    assert not (place / "r.safetensors.checkpoint").exists()
    assert len(list(place.glob("runs/tensorboard/router_*"))) == 2  # all attempts share one run
    assert signal.getsignal(signal.SIGINT) is before


def test_tensorboard_names_a_missing_folder(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("tensorboard") == 2
    assert "runs/tensorboard" in capsys.readouterr().err


def test_tensorboard_serves_the_logs_and_ends_on_ctrl_c(place: Path) -> None:
    from torch.utils.tensorboard import SummaryWriter

    with SummaryWriter(str(place / "logs/router_1")) as writer:
        writer.add_scalar("loss/eval", 0.5, 1)
    server = subprocess.Popen(
        [sys.executable, "-u", "-m", "entrypoints", "tensorboard", "--log-dir", "logs", "--port", "0"],
        cwd=place,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    try:
        assert server.stdout is not None
        url = server.stdout.readline().split(" at ")[1].split()[0]
        deadline = time.monotonic() + 60
        runs: list[str] = []
        while runs != ["router_1"] and time.monotonic() < deadline:
            with urllib.request.urlopen(f"{url}data/runs") as answer:
                runs = json.load(answer)
            time.sleep(0.2)
        assert runs == ["router_1"]
    finally:
        server.send_signal(signal.SIGINT)
        assert server.wait(timeout=60) == 130


def test_a_data_set_that_verify_rejects_is_refused_or_warned_of(
    place: Path, dataset: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (dataset / "metadata.json").write_text('{"schema_version": 1}')
    train = ("train", "--dataset-dir", str(dataset), *QUICK)
    assert run(*train) == 3
    assert "ds: the data set cannot be trusted (metadata is complete: no " in capsys.readouterr().err
    assert [path.name for path in place.iterdir()] == ["ds"]
    assert run(*train, "--no-verify") == 0
    assert "warning: the data set cannot be trusted" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "most"),
    [("", None), ("--batch-size 16", None), ("--batch-size 4", 4), ("--batch-size 4 --encode-batch 6", 6)],
)
def test_a_lower_batch_size_is_a_lower_batch_of_what_the_base_model_encodes_too(
    place: Path, dataset: Path, monkeypatch: pytest.MonkeyPatch, options: str, most: int | None
) -> None:
    made = []

    class MadeError(Exception):
        pass

    def feature_extractor(self: Application, *_args: Any, **_more: Any) -> None:
        made.append(self.encode_batch)
        raise MadeError

    monkeypatch.setattr(Application, "feature_extractor", feature_extractor)
    with pytest.raises(MadeError):
        main(["train", "--dataset-dir", str(dataset), *options.split()])
    assert made == [most]
