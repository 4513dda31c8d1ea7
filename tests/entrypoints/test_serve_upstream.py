"""The endpoint in front of an upstream, with a router in a file: proofs, failures, reloads, the log."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import openai
import pytest
from attrs import evolve, frozen

from adapters.base_model.transformers_base import load_base
from adapters.base_model.transformers_features import TransformersFeatureExtractor
from adapters.router.safetensors_router_store import SafetensorsRouterStore
from entrypoints.backend import Upstream
from entrypoints.bootstrap import Application
from entrypoints.serving.app import serving_app
from entrypoints.serving.settings import ServeSettings
from tests.answering_world import NOTHING, small_router
from tests.serving_world import ask, events, running, wait_ready
from tests.upstream_world import BASE, FakeVllm

NAMES = ("calendar", "claim-window", "provider-select")


@frozen
class World:
    """A served router: its file, the upstream, the log, and the address."""

    router: Path
    loaded: Any
    fake: FakeVllm
    log: Path
    address: str


@pytest.fixture(scope="module")
def world(tiny_base: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    folder = tmp_path_factory.mktemp("served")
    base = load_base(str(tiny_base), cache_dir=folder, device="cpu")
    router = small_router(TransformersFeatureExtractor(base))
    path = SafetensorsRouterStore().save(router, folder / "router.safetensors")
    fake = FakeVllm(dict.fromkeys(NAMES, BASE), key="up")
    app = Application({})
    log = app.decision_log(folder / "log.jsonl")
    with running(fake.app) as url:
        upstream = Upstream(url, key="up")
        serving = app.serve_upstream(path, upstream, ServeSettings(), log=log)
        with running(serving_app(serving)) as address:
            wait_ready(address)
            yield World(path, router, fake, folder / "log.jsonl", address)


@pytest.fixture
def client(world: World) -> Iterator[openai.OpenAI]:
    world.fake.seen.clear()
    with openai.OpenAI(base_url=f"{world.address}/v1", api_key="x", max_retries=0) as made:
        yield made


def test_the_upstream_is_asked_for_the_adapter_that_the_router_picks(world: World, client: openai.OpenAI) -> None:
    tools: Any = [{"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}]
    answer = client.chat.completions.create(
        model="auto", messages=[{"role": "user", "content": "book a table"}], tools=tools, temperature=0.5
    )
    assert (answer.model, answer.choices[0].message.content) == ("calendar", "calendar answers")
    body, headers = world.fake.seen[-1]
    assert body["model"] == "calendar"
    assert (body["tools"], body["temperature"]) == (tools, 0.5)
    assert headers["authorization"] == "Bearer up"
    assert answer.id == f"chatcmpl-{headers['x-request-id']}"


def test_streams_come_through_piece_by_piece(world: World, client: openai.OpenAI) -> None:
    chunks = list(
        client.chat.completions.create(
            model="auto",
            messages=[{"role": "user", "content": "file the claim"}],
            stream=True,
            stream_options={"include_usage": True},
        )
    )
    assert {chunk.model for chunk in chunks} == {"claim-window"}
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert text == "claim-window answers"
    assert chunks[-1].usage is not None
    assert chunks[-1].routing["adapter"] == "claim-window"


def test_completions_are_forwarded_too(client: openai.OpenAI) -> None:
    assert client.completions.create(model="auto", prompt="pick a doctor").model == "provider-select"


def test_connections_are_pooled(world: World, client: openai.OpenAI) -> None:
    world.fake.connections.clear()
    for _ in range(5):
        client.chat.completions.create(model="auto", messages=[{"role": "user", "content": "book a table"}])
    assert len(world.fake.connections) <= 2


@pytest.mark.parametrize(
    ("fault", "status", "code"), [(500, 502, "upstream_error"), ("wrong-echo", 502, "upstream_echo_mismatch")]
)
def test_an_upstreams_failure_is_an_error_before_a_stream_begins(
    world: World, fault: Any, status: int, code: str
) -> None:
    world.fake.faults = {"calendar": fault}
    try:
        for stream in (False, True):
            found = httpx2.post(f"{world.address}/v1/chat/completions", json=ask("book a table", stream=stream))
            assert (found.status_code, found.json()["error"]["code"]) == (status, code)
    finally:
        world.fake.faults = {}


@pytest.mark.parametrize("fault", ["error-later", "cut-later", "wrong-echo-later"])
def test_a_failure_in_the_middle_of_a_stream_is_an_error_event_without_done(world: World, fault: str) -> None:
    world.fake.faults = {"calendar": fault}
    try:
        found = httpx2.post(f"{world.address}/v1/chat/completions", json=ask("book a table", stream=True))
    finally:
        world.fake.faults = {}
    *good, error = events(found.text)
    assert {chunk["model"] for chunk in good} == {"calendar"}
    assert error["error"]["code"] in ("upstream_error", "upstream_echo_mismatch")


def test_administration_of_the_upstream_is_never_forwarded(world: World) -> None:
    for path in ("/v1/load_lora_adapter", "/v1/unload_lora_adapter", "/lora-adapters"):
        assert httpx2.post(f"{world.address}{path}", json={}).status_code == 404


def test_every_request_has_a_line_in_the_log(world: World) -> None:
    found = httpx2.post(f"{world.address}/v1/chat/completions", json=ask("book a table")).json()
    assert httpx2.post(f"{world.address}/v1/feedback", json={"id": found["id"], "correct": "none"}).status_code == 204
    for _ in range(100):
        lines = [json.loads(line) for line in world.log.read_text().splitlines()]
        if lines[-1]["type"] == "feedback":
            break
        time.sleep(0.02)
    decision, feedback = lines[-2:]
    assert (decision["id"], decision["adapter"], feedback["id"]) == (feedback["id"], "calendar", decision["id"])
    assert decision["tokens"]["completion_tokens"] == 2
    assert "table" not in world.log.read_text()
    assert world.log.stat().st_mode & 0o077 == 0


def test_a_retrained_router_takes_over_and_a_bad_file_changes_nothing(world: World) -> None:
    def router_and_problem() -> tuple[str, str | None]:
        told = httpx2.get(f"{world.address}/ready").json()
        return told["router"], told["problem"]

    def wait_for(condition: Any) -> None:
        for _ in range(200):
            if condition():
                return
            time.sleep(0.05)
        raise AssertionError(router_and_problem())

    before, _ = router_and_problem()
    good = world.router.read_bytes()
    broken = world.router.with_suffix(".new")
    broken.write_bytes(good[:-10])
    broken.replace(world.router)
    wait_for(lambda: router_and_problem()[1] is not None)
    assert router_and_problem()[0] == before
    assert httpx2.post(f"{world.address}/v1/route", json={"prompt": "book a table"}).json()["adapter"] == "calendar"
    strict = evolve(world.loaded, card=evolve(world.loaded.card, thresholds=NOTHING))
    SafetensorsRouterStore().save(strict, world.router)
    wait_for(lambda: router_and_problem()[0] != before)
    assert router_and_problem()[1] is None
    assert httpx2.post(f"{world.address}/v1/route", json={"prompt": "book a table"}).json()["adapter"] is None
