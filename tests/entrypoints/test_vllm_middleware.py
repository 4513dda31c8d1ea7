"""The router inside an application that is built as vLLM's is: its authentication inside, middleware outside."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from starlette.middleware import Middleware
from starlette.responses import JSONResponse
from starlette.testclient import TestClient

from adapters.base_model.transformers_base import load_base
from adapters.base_model.transformers_features import TransformersFeatureExtractor
from adapters.router.safetensors_router_store import SafetensorsRouterStore
from domain.errors import MissingFileError, UsageError
from entrypoints.vllm_middleware import MiddlewareSettings, RouterMiddleware
from tests.answering_world import small_router
from tests.serving_world import ask, events
from tests.upstream_world import BASE, FakeVllm

NAMES = ("calendar", "claim-window", "provider-select")
AUTH = {"authorization": "Bearer key"}


class AuthenticationMiddleware:
    """What vLLM does inside: 401 with an error that is a text."""

    def __init__(self, app: Any) -> None:
        self.app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http" and (b"authorization", b"Bearer key") not in scope["headers"]:
            await JSONResponse({"error": "Unauthorized"}, 401)(scope, receive, send)
            return
        await self.app(scope, receive, send)


@pytest.fixture(scope="module")
def router(tiny_base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("inside")
    base = load_base(str(tiny_base), cache_dir=folder, device="cpu")
    return SafetensorsRouterStore().save(small_router(TransformersFeatureExtractor(base)), folder / "r.safetensors")


@pytest.fixture
def fake() -> FakeVllm:
    return FakeVllm(dict.fromkeys(NAMES, BASE))


@pytest.fixture
def http(router: Path, fake: FakeVllm) -> Iterator[TestClient]:
    app = fake.app
    environment = {"MOE_ROUTER_FILE": str(router), "VLLM_API_KEY": "key"}
    app.user_middleware = [Middleware(RouterMiddleware, environment), Middleware(AuthenticationMiddleware)]
    with TestClient(app, headers=AUTH) as client:
        yield client


def test_auto_is_decided_before_vllm_sees_it(http: TestClient, fake: FakeVllm) -> None:
    response = http.post("/v1/chat/completions", json=ask("book a table", routing={"session_id": "s"}, top_k=3))
    answer = response.json()
    assert answer["choices"][0]["message"]["content"] == "calendar answers"
    assert (answer["model"], answer["routing"]["reason"]) == ("calendar", "confident")
    assert response.headers["x-moe-router-adapter"] == "calendar"
    body, _ = fake.seen[-1]
    assert body == {"model": "calendar", "messages": ask("book a table")["messages"], "top_k": 3}


def test_streams_say_who_answers_in_the_first_event(http: TestClient) -> None:
    body = ask("file the claim", stream=True, stream_options={"include_usage": True})
    *chunks, done = events(http.post("/v1/chat/completions", json=body).text)
    assert done == "[DONE]"
    assert ["routing" in chunk for chunk in chunks] == [True, False, False, True]
    assert {chunk["model"] for chunk in chunks} == {"claim-window"}


def test_other_requests_pass_untouched(http: TestClient, fake: FakeVllm) -> None:
    answer = http.post("/v1/chat/completions", json=ask("book a table", model=BASE)).json()
    assert "routing" not in answer
    assert fake.seen[-1][0]["model"] == BASE
    assert http.post("/v1/chat/completions", json=ask("x", model="nope")).status_code == 404
    named = http.post("/v1/completions", json={"model": "claim-window", "prompt": "x", "routing": {}}).json()
    assert (named["model"], named["routing"]["reason"]) == ("claim-window", "named")
    assert http.post("/v1/load_lora_adapter", json={}).status_code == 404


def test_the_key_is_checked_before_anything_is_read(http: TestClient, fake: FakeVllm) -> None:
    for path, body in (("/v1/chat/completions", ask("book a table")), ("/v1/route", {"prompt": "book a table"})):
        response = http.post(path, json=body, headers={"authorization": "Bearer wrong"})
        assert (response.status_code, response.json()["error"]["code"]) == (401, "invalid_api_key")
    assert fake.seen == []


def test_the_list_of_models_begins_with_auto_and_shows_no_path(http: TestClient) -> None:
    data = http.get("/v1/models").json()["data"]
    assert [each["id"] for each in data] == ["auto", BASE, *NAMES]
    assert [each["root"] for each in data] == ["auto", BASE, *NAMES]


def test_decisions_without_an_answer(http: TestClient) -> None:
    assert http.post("/v1/route", json={"prompt": "pick a doctor"}).json()["adapter"] == "provider-select"


def test_an_adapter_that_vllm_serves_as_the_base_is_not_offered(http: TestClient, fake: FakeVllm) -> None:
    fake.silent = {"calendar"}
    answer = http.post("/v1/chat/completions", json=ask("book a table")).json()
    assert (answer["model"], answer["routing"]["reason"]) == (BASE, "disabled")
    refused = http.post("/v1/chat/completions", json=ask("book a table", routing={"fallback": "error"}))
    assert (refused.status_code, refused.json()["error"]["code"]) == (409, "no_adapter")


@pytest.mark.parametrize("stream", [False, True])
def test_an_answer_from_somebody_else_is_an_error(http: TestClient, fake: FakeVllm, stream: bool) -> None:
    http.post("/v1/chat/completions", json=ask("book a table"))
    fake.faults = {"calendar": "wrong-echo"}
    response = http.post("/v1/chat/completions", json=ask("book a table", stream=stream))
    if stream:
        (error,) = events(response.text)
    else:
        assert response.status_code == 502
        error = response.json()
    assert error["error"]["code"] == "upstream_echo_mismatch"
    fake.faults = {"calendar": 400}
    assert http.post("/v1/chat/completions", json=ask("book a table", stream=stream)).status_code == 400


def test_what_it_needs_is_said_at_the_start(router: Path, fake: FakeVllm) -> None:
    with pytest.raises(UsageError, match="MOE_ROUTER_FILE is not set"):
        RouterMiddleware(fake.app, {})
    with pytest.raises(MissingFileError):
        RouterMiddleware(fake.app, {"MOE_ROUTER_FILE": "/nowhere/router.safetensors"})
    with pytest.raises(UsageError, match="a key that the router does not know"):
        RouterMiddleware(AuthenticationMiddleware(fake.app), {"MOE_ROUTER_FILE": str(router)})
    for arguments in (["vllm", "--api-key", "k"], ["vllm", "--api-key=k"]):
        assert MiddlewareSettings.read({"MOE_ROUTER_FILE": "r"}, arguments).key == "k"
