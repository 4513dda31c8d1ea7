"""``route``, ``evaluate``, ``describe`` and ``export`` as users meet them, over a tiny random base model."""

from __future__ import annotations

import hashlib
import io
import json
import os
import re
import sys
from pathlib import Path
from typing import Any

import attrs
import pytest
from click.testing import CliRunner

from application.ports import KnownTexts, TrainedRouter
from domain.features import FeatureSpec
from domain.labels import LabelMap
from domain.robustness import CHANGES
from domain.samples import RoutingSample
from domain.turns import TurnChoice
from entrypoints.bootstrap import Application
from entrypoints.cli import cli, main
from entrypoints.on_modal import places, worker
from tests.modal_world import ModalHere
from tests.router_world import centre_router, known_texts
from tests.tiny_models import tiny_model
from tests.training_world import WORDS, rows

LABELS = LabelMap(tuple(WORDS))


def make_router(base: Path, cache: Path) -> TrainedRouter:
    """A nearest-centre router over a base model."""
    app = Application({"MOE_ROUTER_CACHE": str(cache)})
    extractor = app.feature_extractor(app.load_base(str(base)), use_cache=False)
    spec = FeatureSpec(extractor.base, (1, 3), max_tokens=extractor.max_tokens)

    def encode(samples: list[RoutingSample]) -> KnownTexts:
        return known_texts(extractor, spec, [sample.text for sample in samples], [sample.label for sample in samples])

    return centre_router(LABELS, spec, encode(rows(30, 1)), encode(rows(10, 2)), 0.1)


@pytest.fixture(scope="module")
def router(tiny_base: Path, tmp_path_factory: pytest.TempPathFactory) -> TrainedRouter:
    return make_router(tiny_base, tmp_path_factory.mktemp("cache"))


def write_rows(path: Path, samples: list[RoutingSample]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(attrs.asdict(sample)) + "\n" for sample in samples))


@pytest.fixture
def run(router, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MOE_ROUTER_CACHE", str(tmp_path / "cache"))
    for name in ("BASE_MODEL_ID", "ROUTER_OUT", "VAL_DATA"):
        monkeypatch.delenv(name, raising=False)
    Application().routers.save(router, tmp_path / "router-head.safetensors")
    write_rows(tmp_path / "data" / "eval.jsonl", rows(10, 3))
    write_rows(tmp_path / "data" / "val.jsonl", rows(10, 2))

    def run(*argv: object) -> tuple[Any, str, str]:
        with pytest.raises(SystemExit) as caught:
            main([*map(str, argv)])
        output = capsys.readouterr()
        return caught.value.code, output.out, output.err

    return run


def test_route_explains_every_prompt(run):
    prompt = rows(10, 3)[0]
    code, out, err = run("route", "--prompt", prompt.text, "--prompt", "zzz qqq", "--json", "--nearest", 2)
    assert (code, err) == (0, "")
    first, second = map(json.loads, out.splitlines())
    assert (first["prompt"], first["best"]) == (prompt.text, prompt.adapter)
    assert set(first) == {
        "id", "prompt", "adapter", "reason", "best", "confidence", "runner_up", "margin", "out_of_scope",
        "thresholds", "nearest", "router", "milliseconds", "piece", "pieces", "shortened", "probabilities",
    }  # fmt: skip
    assert first["confidence"] - first["margin"] >= 0
    assert len(first["nearest"]) == len(second["nearest"]) == 2
    assert set(first["nearest"][0]) == {"text", "adapter", "similarity"}
    assert len(first["router"]) == 12
    assert first["milliseconds"] > 0
    Path("asked.jsonl").write_text(json.dumps({"id": "mine-7", "prompt": prompt.text}) + "\n")
    assert json.loads(run("route", "--input", "asked.jsonl", "--json")[1])["id"] == "mine-7"
    described = json.loads(run("describe", "router-head.safetensors", "--json")[1])
    assert described["sha256"].startswith(first["router"])


def test_route_says_none_and_why_in_words(run, router):
    strict = attrs.evolve(router.card.thresholds, max_out_of_scope=-9.0)
    changed = attrs.evolve(router, card=attrs.evolve(router.card, thresholds=strict))
    Application().routers.save(changed, Path("strict"))
    code, out, _ = run("route", "--router", "strict", "--prompt", "anything")
    assert code == 0
    assert "→ none: the prompt is unlike the training prompts" in out
    assert "(limit -9.000)" in out


def test_route_reads_stdin_and_files_and_masks_disabled_adapters(run, monkeypatch):
    texts = [sample.text for sample in rows(10, 3)[:4]]
    Path("prompts.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO("\n".join(texts).encode())))
    from_stdin = [json.loads(line) for line in run("route", "--json")[1].splitlines()]
    from_file = [json.loads(line) for line in run("route", "--json", "--input", "prompts.jsonl")[1].splitlines()]
    assert [each["prompt"] for each in from_stdin] == [each["prompt"] for each in from_file] == texts
    assert [each["best"] for each in from_stdin] == [each["best"] for each in from_file]
    masked = run("route", "--json", "--input", "prompts.jsonl", "--disable", "calendar")[1].splitlines()
    assert "calendar" not in {json.loads(line)["best"] for line in masked}


@pytest.mark.parametrize("words", [["route"], ["route", "--input", "-"], ["infer", "--input", "-", "--route-only"]])
def test_an_empty_standard_input_is_told_before_anything_is_loaded(run, monkeypatch, words):
    if words[0] == "route":  # infer has looked for its adapters by then
        monkeypatch.setattr(
            "adapters.router.safetensors_router_store.SafetensorsRouterStore.load", None
        )  # not called
    with Path(os.devnull).open() as empty:
        monkeypatch.setattr(sys, "stdin", empty)
        code, _, err = run(*words)
    if words == ["route"]:
        assert (code, err.split(" (")[1]) == (2, "give --prompt TEXT or --input FILE, or pipe prompts in)\n")
        monkeypatch.setattr(sys, "stdin", None)  # closed: route <&-
        assert run(*words)[0] == 2
    else:
        assert (code, err) == (3, "moe-router: standard input holds no prompts (pipe some in, or name a file)\n")


def test_a_pipe_that_ends_without_a_prompt_later_is_told_alike(run, monkeypatch):
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"\n")))
    code, _, err = run("route")
    assert (code, err) == (3, "moe-router: standard input holds no prompts (pipe some in, or name a file)\n")


def test_route_shows_a_row_that_is_not_a_prompt_and_decides_all_others(run):
    Path("p.jsonl").write_text('{"text": "open the calendar"}\n{"id": "b", "n": 1}\n"pay the claim"\n')
    code, out, err = run("route", "--json", "--input", "p.jsonl")
    shown = [json.loads(line) for line in out.splitlines()]
    assert (code, [row.get("prompt") for row in shown]) == (3, ["open the calendar", None, "pay the claim"])
    assert (shown[1]["id"], shown[1]["line"]) == ("b", 2)
    assert "p.jsonl:2: id 'b': the row has no 'prompt'" in err
    assert "p.jsonl: 1 of 3 prompts have no decision; all others have" in err
    code, out, _ = run("route", "--input", "p.jsonl", "--allow-errors")
    assert (code, "[prompt] line 2, id 'b'\n[error] the row has no 'prompt'" in out) == (0, True)
    Path("p.jsonl").write_text("{\n3\n")
    code, out, err = run("route", "--input", "p.jsonl")
    assert (code, out, "p.jsonl:1: is not a JSON value" in err) == (3, "", True)


@pytest.mark.parametrize(
    ("argv", "code", "message"),
    [
        (["route", "--prompt", "x", "--router", "absent.safetensors"], 2, "absent.safetensors: no such router file"),
        (["route", "--prompt", "x", "--disable", "nobody"], 2, "unknown adapter 'nobody'"),
        (["route", "--prompt", "x", "--nearest", "-1"], 2, "nearest -1"),
        (["route", "--prompt", " "], 2, "--prompt is empty"),
        (["route", "--prompt", "x", "--input", "y"], 2, "exclude each other"),
        (["route", "--input", "absent.txt"], 2, "absent.txt: no such file"),
        (["route", "--prompt", "x", "--router", "data/eval.jsonl"], 3, "data/eval.jsonl: not a router file"),
        (["describe", "data/eval.jsonl"], 3, "data/eval.jsonl: not a router file"),
        (["evaluate", "--dataset-dir", "data", "--hf-secret", "x"], 2, "--hf-secret belongs to --backend modal"),
        (["evaluate", "--dataset-dir", "nowhere"], 2, "nowhere/eval.jsonl or nowhere/val.jsonl: no such file"),
        (["evaluate", "--dataset-dir", "data", "--out-of-scope", "absent"], 2, "absent: no such file"),
        (["export", "router-head.safetensors", "--to", "r.onnx"], 2, "r.onnx"),
        (
            ["export", "router-head.safetensors", "--to", "data"],
            1,
            "data: is not replaced: it holds what is not part of a router",
        ),
        (["export", "router-head.safetensors", "--to", "data", "--force"], 1, "not part of a router: "),
        (
            ["export", "router-head.safetensors", "--to", "notes"],
            1,
            "notes: is not a folder (choose another name; one without a suffix",
        ),
        (
            ["export", "router-head.safetensors", "--to", "router-head.safetensors"],
            1,
            "already exists (choose another",
        ),
        (["evaluate", "--data-path", "notes"], 3, 'a row is {"text": "…", "label": 0, "adapter": "NAME"'),
        (["evaluate", "--data-path", "data"], 2, "data: no such file"),
        (["evaluate", "--dataset-dir", "data", "--output", "data"], 2, "data: is a folder, not a file"),
        (["evaluate", "--dataset-dir", "data", "--output", "notes/e.json"], 2, "notes/e.json: cannot write"),
        (["evaluate", "--dataset-dir", "data", "--errors", "/proc/e"], 2, "/proc/e: cannot write"),
        (["evaluate", "--dataset-dir", "data", "--report", "/proc/r"], 2, "/proc/r: cannot write"),
        (["evaluate", "--dataset-dir", "data", "--plots", "notes"], 2, "notes/plot.png: cannot write"),
        (["evaluate", "--dataset-dir", "data", "--log-dir", "notes"], 2, "notes/run: cannot write"),
    ],
)
def test_what_goes_wrong_is_one_line_with_its_exit_code_and_leaves_nothing(run, argv, code, message):
    Path("notes").write_text("my notes\n")
    before = sorted(path for path in Path().rglob("*") if "cache" not in path.parts)
    found, out, err = run(*argv)
    assert (found, out, err.count("\n")) == (code, "", 1)
    assert message in err
    assert sorted(path for path in Path().rglob("*") if "cache" not in path.parts) == before


def test_a_damaged_row_of_a_data_set_is_to_be_looked_into_with_verify(run):
    Path("data/eval.jsonl").write_text("{\n")
    Path("data/metadata.json").write_text("{}")
    code, _, err = run("evaluate", "--dataset-dir", "data")
    assert code == 3
    assert err.startswith("moe-router: data/eval.jsonl: line 1: ")
    assert err.endswith("(look into it: moe-router verify data)\n")


def test_another_base_model_is_refused_with_both_sides(run, tmp_path):
    other = tiny_model(tmp_path / "other-base", seed=5)
    small = tiny_model(tmp_path / "small-base", num_hidden_layers=2)
    for base, name in ((other, "other-base"), (small, "small-base")):
        code, out, err = run("route", "--prompt", "x", "--base-model", base)
        assert (code, out) == (3, "")
        assert "base model differs" in err
        assert "tiny-llama" in err
        assert name in err


def test_evaluate_prefers_the_held_out_file_and_writes_the_first_scripts_keys(run):
    out_of_scope = "what is love\nsing of the sea\n"
    Path("oos.txt").write_text(out_of_scope)
    extras = ["--errors", "errors.jsonl", "--out-of-scope", "oos.txt", "--plots", "plots", "--report", "r.html"]
    extras += ["--log-dir", "logs"]
    code, out, err = run("evaluate", "--dataset-dir", "data", *extras)
    assert code == 0
    assert out.startswith("Scored data/eval.jsonl with router ")
    assert "Confusion" in out
    assert "Changed prompts" in out
    assert "Saved router-eval.json" in err
    report = json.loads(Path("router-eval.json").read_text())
    page = Path("r.html").read_text()
    assert f"{100 * report['accuracy']:.1f} %" in page
    assert report["router_sha256"] in page
    (logged,) = Path("logs").iterdir()
    assert re.fullmatch(rf"evaluation_\d{{8}}_\d{{6}}_data-eval_{report['router_sha256'][:8]}", logged.name)
    assert list(report)[:4] == ["accuracy", "total", "correct", "confusion"]
    assert (report["total"], report["scored"]) == (30, "data/eval.jsonl")
    assert report["accuracy"] == report["correct"] / 30
    assert sum(report["confusion"].values()) == 30
    assert all(pair.split("->")[0] in LABELS for pair in report["confusion"])
    assert set(report["adapters"]) == set(LABELS.names)
    assert 0 <= report["calibration_error"] <= 1
    assert report["out_of_scope"]["total"] == 2
    assert list(report["robustness"]["kinds"]) == [change.name for change in CHANGES]
    errors = [json.loads(line) for line in Path("errors.jsonl").read_text().splitlines()]
    assert len(errors) == 30 - report["correct"]
    assert all({"text", "gold", "predicted", "confidence", "nearest"} <= set(each) for each in errors)
    names = ["confusion-matrix.png", "reliability.png", "risk-coverage.png"]
    assert sorted(path.name for path in Path("plots").iterdir()) == names
    assert all(path.read_bytes().startswith(b"\x89PNG\r\n") for path in Path("plots").iterdir())


def test_evaluate_as_json_is_the_file(run):
    code, out, _ = run("evaluate", "--data-path", "data/val.jsonl", "--json", "--no-robustness", "--output", "e.json")
    assert code == 0
    assert out == Path("e.json").read_text()
    assert "robustness" not in json.loads(out)


def test_modal_scores_as_this_machine_does_and_the_files_are_written_here(run, tmp_path, monkeypatch):
    monkeypatch.setattr(worker, "EVALUATION", tmp_path / "there" / "router-eval.json")
    monkeypatch.setattr(places, "MOUNTS", (str(tmp_path),))
    router = str(tmp_path / "router-head.safetensors")
    command = ["evaluate", "--dataset-dir", str(tmp_path / "data"), "--router", router, "--json"]
    code, here, _ = run(*command, "--output", "here.json", "--errors", "here.jsonl")
    assert code == 0
    outputs = ["--output", "e.json", "--errors", "errors.jsonl", "--plots", "plots"]
    there = CliRunner().invoke(cli, [*command, "--backend", "modal", *outputs], obj=ModalHere())
    assert there.exit_code == 0, there.exception
    assert there.stdout == here == Path("e.json").read_text() == Path("there/router-eval.json").read_text()
    assert Path("errors.jsonl").read_text() == Path("here.jsonl").read_text()
    assert list(Path("plots").glob("*.png"))


def test_rows_of_another_label_map_are_refused_and_no_report_is_left(run):
    write_rows(Path("data/eval.jsonl"), rows(5, 3, ("provider-select", "calendar", "claim-window")))
    code, out, err = run("evaluate", "--dataset-dir", "data")
    assert (code, out) == (3, "")
    assert "the router has calendar=0, claim-window=1, provider-select=2" in err
    assert "the rows have provider-select=0, calendar=1, claim-window=2" in err
    assert not Path("router-eval.json").exists()


def test_router_out_may_name_the_torch_file(run, monkeypatch):
    monkeypatch.setenv("ROUTER_OUT", "router-head.pt")
    assert run("route", "--prompt", "x")[0] == 0


def test_describe_tells_what_each_layer_means(run, router):
    code, out, err = run("describe", "router-head.safetensors")
    assert (code, err) == (0, "Next: moe-router route --router router-head.safetensors --prompt '…'\n")
    assert hashlib.sha256(Path("router-head.safetensors").read_bytes()).hexdigest() in out
    assert "calendar=0, claim-window=1, provider-select=2" in out
    assert "hidden_states[3], after block 3 of 4" in out
    assert router.card.features.base.fingerprint in out
    values = json.loads(run("describe", "router-head.safetensors", "--json")[1])
    assert values["layers"] == [1, 3]
    assert values["tensors"]["head.weight"] == [4, 64]


def test_export_writes_a_folder_that_routes_and_a_torch_file(run):
    torch = pytest.importorskip("torch")
    assert run("export", "router-head.safetensors", "--to", "shared")[0] == 0
    assert sorted(path.name for path in Path("shared").iterdir()) == ["README.md", "config.json", "model.safetensors"]
    assert run("route", "--router", "shared", "--prompt", "x")[0] == 0
    assert run("export", "shared", "--to", "shared")[0] == 1
    assert run("export", "shared", "--to", "shared", "--force")[0] == 0
    assert run("export", "shared", "--to", "out/r.pt")[0] == 0
    assert [path.name for path in Path("out").iterdir()] == ["r.pt"]
    assert "head.weight" in torch.load("out/r.pt", weights_only=True)["state_dict"]


LINES = [
    {"prompt": "please open the calendar on may third", "text": "refund the invoice"},
    {"id": None, "prompt": None, "text": "<image>\nrefund the invoice"},
    "pay <system-reminder>calendar</system-reminder> the deductible",
    {
        "messages": [
            {"role": "user", "content": "open the calendar"},
            {"role": "assistant", "content": None, "tool_calls": [{"function": {"name": "open", "arguments": "{}"}}]},
            {"role": "tool", "content": "done"},
            {"role": "user", "content": [{"type": "text", "text": "thanks"}, {"type": "image_url", "image_url": {}}]},
        ]
    },
    {
        "messages": None,
        "conversations": [
            {"from": "human", "value": "find a provider"},
            {"from": "function_call", "value": "{}"},
            {"from": "observation", "value": "{}"},
            {"from": "human", "value": "and now pay the claim"},
        ],
    },
]
LAST = ["open the calendar\nthanks", "and now pay the claim"]


@pytest.mark.parametrize(("turn", "chats"), [("first", ["open the calendar", "find a provider"]), ("last", LAST)])
def test_route_and_infer_agree_on_every_line_and_follow_the_turn_of_the_router(run, router, tmp_path, turn, chats):
    card = attrs.evolve(router.card, turn=TurnChoice(turn))
    Application().routers.save(attrs.evolve(router, card=card), tmp_path / "turned.safetensors")
    (tmp_path / "p.jsonl").write_text("\n".join(map(json.dumps, LINES)), encoding="utf-8-sig")
    code, out, _ = run("route", "--json", "--input", "p.jsonl", "--router", "turned.safetensors")
    assert code == 0
    routed = [json.loads(line) for line in out.splitlines()]
    code, out, _ = run("infer", "--route-only", "--json", "--input", "p.jsonl", "--router", "turned.safetensors")
    assert code == 0
    inferred = [json.loads(line) for line in out.splitlines()]
    assert [row["prompt"] for row in routed] == [row["prompt"] for row in inferred]
    assert [row["confidence"] for row in routed] == [row["confidence"] for row in inferred]
    plain = ["please open the calendar on may third", "refund the invoice", "pay   the deductible"]
    assert [row["prompt"] for row in routed] == [*plain, *chats]
