"""The endpoint on Modal, without Modal: its settings, what happens before and when it is loaded, and beside it."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
from starlette.testclient import TestClient

from domain.errors import MissingFileError, UsageError
from entrypoints.on_modal import serving
from entrypoints.on_modal.first_contact import stated
from entrypoints.on_modal.options import checked_gpu
from entrypoints.on_modal.serving import AfterLoading, EndpointSettings, Keeper, carried, open_endpoint


def test_the_environment_of_the_deployment_says_what_is_served():
    settings = EndpointSettings.read(
        {
            "ROUTER_OUT": "mine.pt",
            "MOE_ROUTER_LORA_DIR": "loras",
            "BASE_MODEL_ID": "some/model",
            "MOE_ROUTER_DECISION_LOG": "log.jsonl",
            "MOE_ROUTER_KEY_SECRET": "key",
        }
    )
    assert settings == EndpointSettings(
        Path("/output/mine.safetensors"),
        Path("/checkpoints/loras"),
        "some/model",
        "base",
        Path("/cache/log.jsonl"),
        "key",
    )
    assert EndpointSettings.read({}) == EndpointSettings()
    assert carried({"ROUTER_OUT": "a", "BASE_MODEL_ID": "", "HOME": "b"}) == {"ROUTER_OUT": "a"}


@pytest.mark.parametrize(
    ("environment", "words"),
    [
        ({"ROUTER_OUT": "/tmp/r"}, "the router lies on no volume"),
        ({"MOE_ROUTER_DECISION_LOG": "/tmp/log"}, "the decision log would be lost"),
        ({"MOE_ROUTER_LORA_DIR": "/home/me"}, "lies on no volume"),
    ],
)
def test_places_that_no_container_sees_are_refused_by_the_deployment(environment, words):
    with pytest.raises(UsageError, match=words):
        EndpointSettings.read(environment)


def test_a_kind_of_gpu_that_modal_does_not_have_is_one_line_of_its_command_line(monkeypatch, capsys):
    from entrypoints.on_modal import first_contact

    monkeypatch.setattr(first_contact, "_in_modals_command_line", lambda: True)
    with pytest.raises(SystemExit) as ended:
        stated(lambda: checked_gpu("L4,L5"))
    assert ended.value.code == 2
    assert capsys.readouterr().err.startswith("moe-router: Modal has no GPU 'L5'")


def test_what_cannot_be_loaded_is_said_to_those_who_ask(monkeypatch):
    def missing(*_args):
        raise MissingFileError("no such file", where="/output/router-head.safetensors")

    monkeypatch.setattr(serving, "_serving", missing)
    with TestClient(open_endpoint(None, EndpointSettings(), None)[0]) as client:
        answer = client.get("/v1/models")
    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "not_ready")
    assert "/output/router-head.safetensors: no such file" in answer.json()["error"]["message"]


def test_the_first_request_waits_for_the_router_and_a_failed_load_holds_up_nobody():
    async def asked(problem):
        state = SimpleNamespace(current=None, problem=None)
        seen = []

        async def inner(scope, receive, send):
            seen.append((state.current, state.problem))

        asyncio.get_running_loop().call_later(
            0.05, lambda: setattr(state, *(("problem", problem) if problem else ("current", "router")))
        )
        await AfterLoading(inner, state)({"type": "lifespan"}, None, None)
        await AfterLoading(inner, state)({"type": "http"}, None, None)
        return seen

    assert asyncio.run(asked(None)) == [(None, None), ("router", None)]
    assert asyncio.run(asked("lost")) == [(None, None), (None, "lost")]


def test_a_volume_that_is_busy_is_looked_at_again():
    looks = []

    def look():
        looks.append(1)
        raise RuntimeError("there are open files preventing the operation")

    ended = Keeper(look, 0.01).start()
    end = time.monotonic() + 10
    while len(looks) < 2:
        assert time.monotonic() < end
        time.sleep(0.01)
    ended.set()
