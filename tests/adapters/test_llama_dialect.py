"""The dialect of llama.cpp's server, against one that has its traps; `make test-llama` asks the real one."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from adapters.upstream.upstream_answerer import UpstreamAnswerer
from application.ports.serving import AnswerFailedError, Call
from tests.upstream_world import FakeLlama, FakeVllm, answerer

NAMES = ("calendar", "claims", "code")
CHAT = {"messages": [{"role": "user", "content": "hello"}], "top_k": 3}


def proved(fake: Any, **options: Any) -> UpstreamAnswerer:
    engine = answerer(fake, "llama-server", **options)
    asyncio.run(engine.prove(NAMES))
    return engine


def said(engine: UpstreamAnswerer, adapter: str | None) -> str:
    call = Call("chat/completions", dict(CHAT), adapter, adapter or "tiny", "req-1")
    answer: Any = asyncio.run(engine.complete(call))
    return str(answer["choices"][0]["message"]["content"])


@pytest.mark.parametrize("slots", [4, 3])
def test_each_answer_comes_from_whom_it_was_asked_of_in_any_order(slots: int) -> None:
    engine = proved(FakeLlama(slots=slots))
    assert (engine.offered, engine.base_name) == (NAMES, "tiny")
    asked = [None, "code", None, "calendar", "code", "claims", None]
    assert [said(engine, name) for name in asked] == [f"{name or 'base'} answers" for name in asked]


def test_adapters_that_run_unasked_are_switched_off() -> None:
    fake = FakeLlama()
    assert set(fake.scales.values()) == {1.0}
    proved(fake)
    assert set(fake.scales.values()) == {0.0}


def test_every_request_lists_all_adapters_and_keeps_caches_apart() -> None:
    fake = FakeLlama(slots=4)
    engine = proved(fake)
    fake.seen.clear()
    for name in (None, *NAMES):
        said(engine, name)
    scales = [[each["scale"] for each in body["lora"]] for body in fake.seen]
    assert scales == [[0.0, 0.0, 0.0], [1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]]
    assert [[each["id"] for each in body["lora"]] for body in fake.seen] == [[0, 1, 2]] * 4
    assert [body["id_slot"] for body in fake.seen] == [0, 1, 2, 3]
    assert all(body["top_k"] == 3 and "cache_prompt" not in body for body in fake.seen)


def test_with_too_few_slots_no_prompt_is_cached() -> None:
    fake = FakeLlama(slots=3)
    said(proved(fake), "code")
    assert fake.seen[-1]["cache_prompt"] is False
    assert "id_slot" not in fake.seen[-1]


def test_an_adapter_without_a_file_or_without_effect_is_not_offered() -> None:
    engine = proved(FakeLlama(["/loras/calendar.gguf", "/loras/claims.gguf"], silent={"claims"}))
    assert engine.offered == ("calendar",)
    assert engine.refused["claims"] == "it answers exactly as the base model does"
    assert engine.refused["code"] == "the upstream has no adapter file 'code'; it has calendar, claims"


def test_files_may_have_other_names() -> None:
    files = [f"/loras/{name}-lora-f16.gguf" for name in NAMES]
    engine = proved(FakeLlama(files), template="{adapter}-lora-f16", base="smol")
    assert (engine.offered, engine.base_name) == (NAMES, "smol")
    assert said(engine, "claims") == "claims-lora-f16 answers"


def test_another_kind_of_server_is_not_taken_for_it() -> None:
    with pytest.raises(AnswerFailedError):
        proved(FakeVllm())
