"""``export --trunk``, and routing from what it writes, as users meet them."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import httpx2
import pytest
from click.testing import CliRunner
from starlette.middleware import Middleware
from starlette.testclient import TestClient

from adapters.base_model.transformers_base import load_base
from adapters.base_model.transformers_features import TransformersFeatureExtractor
from adapters.router.safetensors_router_store import SafetensorsRouterStore
from adapters.trunk.onnx_features import OnnxFeatureExtractor
from entrypoints import api
from entrypoints.backend import Upstream
from entrypoints.bootstrap import Application
from entrypoints.cli import cli, main
from entrypoints.serving.app import serving_app
from entrypoints.serving.settings import ServeSettings
from entrypoints.vllm_middleware import RouterMiddleware
from tests.answering_world import NOTHING, small_router
from tests.serving_world import ask, running, wait_ready
from tests.upstream_world import BASE, FakeVllm

NAMES = ("calendar", "claim-window", "provider-select")
PROMPTS = ["book a table for two", "file a claim for the window", "which doctor takes my insurance", "予定 🙂"]


@pytest.fixture(scope="module")
def made(tiny_base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a router, its trunk, and nothing of its base model: that one is moved away."""
    folder = tmp_path_factory.mktemp("trunks")
    shutil.copytree(tiny_base, folder / "base")
    base = load_base(str(folder / "base"), cache_dir=folder, device="cpu")
    SafetensorsRouterStore().save(small_router(TransformersFeatureExtractor(base)), folder / "router.safetensors")
    return folder


def invoke(*argv: Any) -> Any:
    return CliRunner().invoke(cli, [str(part) for part in argv], obj=Application({}))


@pytest.fixture(scope="module")
def trunk(made: Path) -> Path:
    done = invoke("export", made / "router.safetensors", "--trunk", made / "trunk")
    assert done.exit_code == 0, done.output
    assert done.stdout == f"{made / 'trunk'}\n"
    assert "prompts decided as with torch, features differ by at most" in done.stderr
    return made / "trunk"


def decisions(router: Path, *more: Any) -> list[dict[str, Any]]:
    asked = [part for prompt in PROMPTS for part in ("--prompt", prompt)]
    done = invoke("route", "--router", router, "--json", *asked, *more)
    assert done.exit_code == 0, done.output
    return [
        {key: each[key] for key in ("adapter", "reason", "best")}
        for each in map(json.loads, done.stdout.splitlines())
    ]


def test_a_trunk_decides_as_the_base_model_does(made: Path, trunk: Path) -> None:
    expected = decisions(made / "router.safetensors")
    assert decisions(trunk) == expected
    assert decisions(made / "router.safetensors", "--base-model", trunk) == expected
    opened = api.open_router(trunk)
    assert [opened.route(prompt).adapter for prompt in PROMPTS] == [each["adapter"] for each in expected]


def test_a_trunk_is_evaluated_as_the_base_model_is(made: Path, trunk: Path, tmp_path: Path) -> None:
    rows = [
        {"text": prompt, "label": label, "adapter": name, "source_id": f"{name}:1"}
        for label, (name, prompt) in enumerate(zip(NAMES, PROMPTS, strict=False))
    ]
    held_out = tmp_path / "eval.jsonl"
    held_out.write_text("".join(f"{json.dumps(row)}\n" for row in rows), encoding="utf-8")

    def report(router: Path) -> Any:
        output = tmp_path / f"{router.name}.json"
        done = invoke("evaluate", "--router", router, "--data-path", held_out, "--output", output)
        assert done.exit_code == 0, done.output
        told = json.loads(output.read_bytes())
        return {key: value for key, value in told.items() if key in ("total", "accuracy", "confusion")}

    found = report(trunk)
    assert found == report(made / "router.safetensors")
    assert found["total"] == 3


def test_inside_vllm_a_trunk_decides(trunk: Path) -> None:
    app = FakeVllm(dict.fromkeys(NAMES, BASE)).app
    app.user_middleware = [Middleware(RouterMiddleware, {"MOE_ROUTER_FILE": str(trunk)})]
    with TestClient(app) as http:
        answer = http.post("/v1/chat/completions", json=ask(PROMPTS[0])).json()
    assert (answer["model"], answer["routing"]["reason"]) == ("calendar", "confident")


PROGRAM = """
import json, sys
from pathlib import Path

class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {"torch", "transformers", "peft"}:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Refuse())
from starlette.testclient import TestClient
from entrypoints.bootstrap import Application
from entrypoints.cli import cli, main
from entrypoints.serving.app import serving_app
from entrypoints.serving.settings import ServeSettings
from entrypoints.backend import Upstream

trunk, url, prompt = sys.argv[1:]
cli.main(["route", "--router", trunk, "--prompt", prompt, "--json"], standalone_mode=False, obj=Application({}))
serving = Application({}).serve_upstream(Path(trunk), Upstream(url), ServeSettings())
with TestClient(serving_app(serving)) as client:
    while client.get("/ready").status_code != 200:
        pass
    body = {"model": "auto", "messages": [{"role": "user", "content": prompt}]}
    print(json.dumps({"adapter": client.post("/v1/chat/completions", json=body).json()["model"]}))
"""


def test_routing_and_serving_from_a_trunk_import_neither_torch_nor_transformers(trunk: Path) -> None:
    with running(FakeVllm(dict.fromkeys(NAMES, BASE)).app) as url:
        argv = [sys.executable, "-c", PROGRAM, str(trunk), url, PROMPTS[0]]
        done = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
    told = [json.loads(line)["adapter"] for line in done.stdout.splitlines() if line.startswith("{")]
    assert told == ["calendar", "calendar"]


def routed(address: str) -> dict[str, Any]:
    return dict(httpx2.post(f"{address}/v1/route", json={"prompt": PROMPTS[0]}).json())


def test_a_served_trunk_that_is_exported_again_is_loaded_anew(made: Path, trunk: Path, tmp_path: Path) -> None:
    target = Path(shutil.copytree(trunk, tmp_path / "trunk"))
    with running(FakeVllm(dict.fromkeys(NAMES, BASE)).app) as url:
        serving = Application({}).serve_upstream(target, Upstream(url), ServeSettings())
        with running(serving_app(serving)) as address:
            wait_ready(address)
            before = routed(address)
            base = load_base(str(made / "base"), cache_dir=tmp_path, device="cpu")
            strict = small_router(TransformersFeatureExtractor(base), NOTHING)
            SafetensorsRouterStore().save(strict, tmp_path / "strict.safetensors")
            again = invoke("export", tmp_path / "strict.safetensors", "--trunk", target, "--force")
            assert again.exit_code == 0, again.output
            assert invoke("export", tmp_path / "strict.safetensors", "--trunk", target).exit_code == 1
            for _ in range(100):
                if (after := routed(address))["router"] != before["router"]:
                    break
                time.sleep(0.05)
    assert before["adapter"] == "calendar"
    assert after["adapter"] is None


@pytest.mark.parametrize(
    ("argv", "code", "message"),
    [
        (["export", "{made}/router.safetensors"], 2, "give either --to or --trunk"),
        (["export", "{made}/router.safetensors", "--to", "x", "--trunk", "y"], 2, "give either --to or --trunk"),
        (["export", "{made}/router.safetensors", "--trunk", "{made}"], 1, "already exists"),
        (["export", "{made}/router.safetensors", "--trunk", "{made}", "--force"], 1, "not part of a trunk"),
        (["export", "{made}/router.safetensors", "--to", "{trunk}", "--force"], 1, "not part of a router"),
        (["export", "{made}/router.safetensors", "--trunk", "/proc/x"], 2, "/proc/x: cannot write"),
    ],
)
def test_what_cannot_be_is_one_line(
    made: Path, trunk: Path, argv: list[str], code: int, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main([part.format(made=made, trunk=trunk) for part in argv])
    told = capsys.readouterr().err
    assert (ended.value.code, told.count("\n")) == (code, 1), told
    assert message in told


def test_without_its_packages_a_trunk_says_what_to_install(trunk: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(
        api.MoeRouterError, match=r"needs the package onnxruntime.*pip install onnxruntime tokenizers"
    ):
        OnnxFeatureExtractor(trunk)
