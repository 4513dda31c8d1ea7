"""What ``modal run`` asks the app's functions for, flag by flag; the functions themselves are not called."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from adapters.modal_cloud.modal_wire import error_to_wire, from_wire
from application.ports import TrainJob
from domain.errors import RouterFileError
from entrypoints import modal_app
from entrypoints.backend import Evaluation, Questions


class Function:
    """Takes a request down and answers, like a function of the app and like its call."""

    def __init__(self) -> None:
        self.request: dict[str, Any] = {}

    def spawn(self, request: dict[str, Any]) -> Function:
        self.request = request
        return self

    def get(self) -> dict[str, Any]:
        return error_to_wire(RouterFileError("enough"))


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> dict[str, Function]:
    functions = {name: Function() for name in ("train", "evaluate", "infer")}
    for name, function in functions.items():
        monkeypatch.setitem(modal_app.functions, name, function)
    return functions


def modal_run(**flags: Any) -> int:
    """Run the local entrypoint, which the functions' answer ends; return its exit code."""
    with pytest.raises(SystemExit) as ended:
        modal_app.main.info.raw_f(**flags)
    return int(ended.value.code or 0)


def test_infer_asks_with_the_containers_paths(asked: dict[str, Function], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BASE_MODEL_ID", "some/model")
    modal_run(mode="infer", prompt="hello", lora_dir="/checkpoints/mine", router="/output/r.safetensors")
    questions = from_wire(Questions, asked["infer"].request)
    assert (questions.lora_dir, questions.router) == (Path("/checkpoints/mine"), Path("/output/r.safetensors"))
    assert questions.base_model == "some/model"


def test_eval_asks_for_the_routers_own_base_model_by_default(
    asked: dict[str, Function], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("BASE_MODEL_ID", raising=False)
    monkeypatch.setenv("VAL_DATA", "/datasets/a.jsonl")
    assert modal_run(mode="eval") == 3
    asked_for = from_wire(Evaluation, asked["evaluate"].request)
    assert (asked_for.base_model, asked_for.data.data_path) == (None, Path("/datasets/a.jsonl"))


def test_train_asks_for_the_defaults_of_modal_and_of_the_command(
    asked: dict[str, Function], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("BASE_MODEL_ID", "ROUTER_OUT", "LOG_DIR", "TRAIN_DATA", "VAL_DATA"):
        monkeypatch.delenv(name, raising=False)
    assert modal_run(dataset_dir="/datasets/x", epochs=7) == 3
    job = from_wire(TrainJob, asked["train"].request["job"])
    assert (str(job.train_path), str(job.val_path)) == ("/datasets/x/train.jsonl", "/datasets/x/val.jsonl")
    assert (str(job.router_out), str(job.log_dir)) == ("/output/router-head.pt", "/output/tensorboard")
    assert (job.base_model, job.options.epochs, job.options.early_stop.patience) == (
        "Qwen/Qwen3-VL-8B-Instruct",
        7,
        5,
    )


@pytest.mark.parametrize(
    ("flags", "code", "words"),
    [
        ({"mode": "serve"}, 2, "--mode must be one of: train, eval, infer; not 'serve'"),
        ({"mode": "infer"}, 2, "give prompts with --prompt"),
        ({"mode": "infer", "prompt": "x", "epochs": 3}, 2, "--epochs"),
        ({"mode": "infer", "prompt": " "}, 3, "no text"),
        ({"mode": "train", "encode_shards": 0}, 2, "--encode-shards 0 is below 1"),
        ({"mode": "train", "lr": -1.0}, 2, "learning rate"),
    ],
)
def test_what_makes_no_sense_is_one_line_and_calls_nothing(
    asked: dict[str, Function], capsys: pytest.CaptureFixture[str], flags: dict[str, Any], code: int, words: str
) -> None:
    assert modal_run(**flags) == code
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("moe-router: ")
    assert words in line
    assert not any(function.request for function in asked.values())
