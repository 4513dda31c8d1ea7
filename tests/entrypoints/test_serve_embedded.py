"""The endpoint with a base model of its own: the same answers as `infer`, for a hundred callers at once."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import openai
import pytest
from attrs import frozen
from click.testing import CliRunner

from adapters.base_model.transformers_base import load_base
from adapters.base_model.transformers_features import TransformersFeatureExtractor
from adapters.router.safetensors_router_store import SafetensorsRouterStore
from application.ports.answering import AnswerRequest
from domain.answer_policy import AnswerPolicy, Fallback, FallbackKind
from domain.answers import Answer, GenerationOptions, Prompt
from domain.chats import as_chat
from domain.errors import MoeRouterError, UsageError
from entrypoints.bootstrap import Application
from entrypoints.cli import cli
from entrypoints.serving.app import serving_app
from entrypoints.serving.settings import ServeSettings
from tests.answering_world import WORDS, small_router
from tests.lora_world import NAMES, write_loras
from tests.serving_world import ask, events, running, wait_ready

PROMPTS = [f"{a} {b}" for words in WORDS for a in words for b in words][::3]
TOKENS = 8


@frozen
class World:
    """A served base model, and what `infer` answers with it."""

    address: str
    router: Path
    loras: Path
    answers: dict[str, Answer]


@pytest.fixture(scope="module")
def world(tiny_base: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    folder = tmp_path_factory.mktemp("embedded")
    base = load_base(str(tiny_base), cache_dir=folder, device="cpu")
    trained = small_router(TransformersFeatureExtractor(base))
    router = SafetensorsRouterStore().save(trained, folder / "router.safetensors")
    folders = write_loras(base, folder / "loras", systems={"calendar": "Book a table"})
    app = Application({})
    infer = app.answer_prompts(app.routers.load(router), folders)
    request = AnswerRequest(
        tuple(Prompt(as_chat(text)) for text in PROMPTS),
        GenerationOptions(TOKENS),
        AnswerPolicy(Fallback(FallbackKind.BASE)),
    )
    found = dict(zip(PROMPTS, infer(request), strict=True))
    assert not any(isinstance(each, MoeRouterError) for each in found.values())
    serving = app.serve_embedded(router, folders, ServeSettings(), max_tokens=32)
    with running(serving_app(serving)) as address:
        wait_ready(address)
        yield World(address, router, folder / "loras", found)  # type: ignore[arg-type]


def test_a_hundred_concurrent_requests_get_what_infer_answers(world: World) -> None:
    async def one(http: httpx2.AsyncClient, number: int) -> None:
        text, stream = PROMPTS[number % len(PROMPTS)], number % 3 == 0
        expected = world.answers[text]
        model = "auto" if number % 4 else (expected.adapter or "tiny-llama")
        body = ask(text, stream=stream, max_tokens=TOKENS, model=model, routing={"strategy": "none"})
        response = await http.post("/v1/chat/completions", json=body)
        assert response.status_code == 200, response.text
        if stream:
            *chunks, done = events(response.text)
            assert done == "[DONE]"
            found = "".join(chunk["choices"][0]["delta"]["content"] for chunk in chunks)
            answer, finish = chunks[0], chunks[-1]["choices"][0]["finish_reason"]
            assert {chunk["model"] for chunk in chunks} == {expected.adapter}
        else:
            answer = response.json()
            choice = answer["choices"][0]
            found, finish = choice["message"]["content"], choice["finish_reason"]
            assert answer["usage"]["completion_tokens"] == expected.tokens
            assert answer["usage"]["prompt_tokens"] > 5
        assert (answer["model"], found, finish) == (expected.adapter, expected.text, expected.finish)
        assert answer["routing"]["weights"] == expected.weights
        assert len(expected.weights or "") == 64

    async def main() -> None:
        async with httpx2.AsyncClient(base_url=world.address, timeout=120, trust_env=False) as http:
            await asyncio.gather(*(one(http, number) for number in range(100)))

    asyncio.run(main())
    assert {each.adapter for each in world.answers.values()} == set(NAMES)
    metrics = httpx2.get(f"{world.address}/metrics").text
    assert "moe_router_requests_in_flight 0.0" in metrics
    assert 'vllm:lora_requests_info{max_lora="3",running_lora_adapters="",waiting_lora_adapters=""}' in metrics


def test_the_real_client_streams_with_stop_and_usage(world: World) -> None:
    with openai.OpenAI(base_url=f"{world.address}/v1", api_key="x", max_retries=0) as client:
        chunks = list(
            client.chat.completions.create(
                model="auto",
                messages=[{"role": "user", "content": "book a table"}],
                max_completion_tokens=5,
                temperature=1.0,
                seed=3,
                stop=["zzz"],
                stream=True,
                stream_options={"include_usage": True},
            )
        )
        assert chunks[-1].usage is not None
        assert 1 <= chunks[-1].usage.completion_tokens <= 5
        assert client.completions.create(model="auto", prompt="pick a doctor", max_tokens=3).model == NAMES[2]


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"tools": [{"type": "function"}]}, "tools"),
        ({"n": 2}, "n"),
        ({"top_p": 0.5}, "top_p"),
        ({"logprobs": True}, "logprobs"),
        ({"response_format": {"type": "json_object"}}, "response_format"),
        ({"max_tokens": 33}, "max_tokens"),
        ({"max_tokens": True}, "max_tokens"),
        ({"stop": [1]}, "stop"),
        ({"temperature": "hot"}, "temperature"),
        ({"temperature": -1}, None),
        ({"top_k": 3}, "top_k"),
    ],
)
def test_what_this_engine_cannot_do_is_refused_and_not_ignored(world: World, body: Any, param: str | None) -> None:
    found = httpx2.post(f"{world.address}/v1/chat/completions", json=ask("book a table", **body))
    assert (found.status_code, found.json()["error"]["param"]) == (400, param), found.text


def test_a_prompt_that_is_too_long_has_openais_code(world: World) -> None:
    found = httpx2.post(f"{world.address}/v1/chat/completions", json=ask("book a table " * 200))
    assert (found.status_code, found.json()["error"]["code"]) == (400, "context_length_exceeded")
    streamed = httpx2.post(f"{world.address}/v1/chat/completions", json=ask("book a table " * 200, stream=True))
    assert streamed.status_code == 400


def run(*arguments: Any) -> Any:
    return CliRunner().invoke(cli, ["serve", *map(str, arguments)], obj=Application({}))


def test_the_command_refuses_what_makes_no_sense(world: World) -> None:
    router = ("--router", world.router)
    for arguments, message in (
        ((), "give either LoRA adapters to answer with here, or --upstream"),
        (("--lora-dir", world.loras, "--upstream", "http://x"), "give either"),
        (("--upstream", "x:1"), "is not an address"),
        (("--upstream", "http://x", "--host", "0.0.0.0"), "without a key only this machine"),
        (("--upstream", "http://x", "--api-key-env", "NOPE"), "NOPE is not set"),
        (("--upstream", "http://x", "--upstream-model", "fixed"), "same model for every adapter"),
        (("--lora-dir", world.loras, "--log-prompts"), "--log-prompts goes with --decision-log"),
        (("--lora-modules", f"other={world.loras / 'calendar'}"), "none of the LoRA adapters is one of the router's"),
        (("--lora-dir", world.loras, "--fallback", "a b"), "is not allowed"),
    ):
        result = run(*router, *arguments)
        assert isinstance(result.exception, UsageError), (arguments, result.exception, result.output)
        assert message in str(result.exception)


def test_the_command_serves_until_it_is_asked_to_stop(world: World) -> None:
    command = [sys.executable, "-m", "entrypoints", "serve", "--router", str(world.router), "--port", "0"]
    modules = [f"--lora-modules={name}={world.loras / name}" for name in NAMES]
    process = subprocess.Popen([*command, *modules], stderr=subprocess.PIPE, text=True)
    try:
        assert process.stderr is not None
        line = next(line for line in process.stderr if "serving on" in line)
        address = line.split("serving on ")[1].strip()
        wait_ready(address, 500)
        assert httpx2.post(f"{address}/v1/route", json={"prompt": "book a table"}).json()["adapter"] == "calendar"
        process.send_signal(signal.SIGHUP)
        for _ in range(100):
            if 'moe_router_reloads_total{result="ok"} 2.0' in httpx2.get(f"{address}/metrics").text:
                break
            time.sleep(0.1)
        else:
            raise AssertionError(httpx2.get(f"{address}/metrics").text)
        process.terminate()
        assert process.wait(20) == 0
    finally:
        process.kill()
