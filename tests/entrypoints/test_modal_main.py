"""What ``modal run`` asks the app's functions for, flag by flag; the functions themselves are not called."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from adapters.modal_cloud.modal_requests import RemoteAnswers, RemoteEvaluation, RemoteQuestions
from adapters.modal_cloud.modal_wire import from_wire, to_wire
from entrypoints import modal_app


class Function:
    """Takes a request down and answers, like a function of the app and like its call."""

    def __init__(self) -> None:
        self.request: dict[str, Any] = {}

    def spawn(self, request: dict[str, Any]) -> Function:
        self.request = request
        return self

    def get(self) -> dict[str, Any]:
        return to_wire(RemoteAnswers())


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> dict[str, Function]:
    functions = {name: Function() for name in ("train", "evaluate", "infer")}
    for name, function in functions.items():
        monkeypatch.setitem(modal_app.functions, name, function)
    return functions


def modal_run(**flags: Any) -> None:
    modal_app.main.info.raw_f(**flags)


def test_infer_asks_with_the_containers_paths(asked: dict[str, Function], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BASE_MODEL_ID", "some/model")
    modal_run(mode="infer", prompt="hello", lora_dir="/checkpoints/mine", router="/output/r.safetensors")
    questions = from_wire(RemoteQuestions, asked["infer"].request)
    assert (questions.lora_dir, questions.router) == (Path("/checkpoints/mine"), Path("/output/r.safetensors"))
    assert questions.base_model == "some/model"


def test_eval_asks_for_the_routers_own_base_model_by_default(
    asked: dict[str, Function], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("BASE_MODEL_ID", raising=False)
    monkeypatch.setenv("VAL_DATA", "/datasets/a.jsonl")
    modal_run(mode="eval")
    asked_for = from_wire(RemoteEvaluation, asked["evaluate"].request)
    assert (asked_for.base_model, asked_for.environment) == (None, {"VAL_DATA": "/datasets/a.jsonl"})


@pytest.mark.parametrize(
    ("flags", "code", "words"),
    [
        ({"mode": "serve"}, 2, "--mode serve is none of train, eval, infer"),
        ({"mode": "infer"}, 2, "--mode infer needs a --prompt"),
        ({"mode": "infer", "prompt": " "}, 3, "no text"),
        ({"mode": "train", "encode_shards": 0}, 2, "--encode-shards 0 is below 1"),
        ({"mode": "train", "lr": -1.0}, 2, "learning rate"),
    ],
)
def test_what_makes_no_sense_is_one_line_and_calls_nothing(
    asked: dict[str, Function], capsys: pytest.CaptureFixture[str], flags: dict[str, Any], code: int, words: str
) -> None:
    with pytest.raises(SystemExit) as caught:
        modal_run(**flags)
    assert caught.value.code == code
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("moe-router: ")
    assert words in line
    assert not any(function.request for function in asked.values())
