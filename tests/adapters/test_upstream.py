"""An upstream that behaves, one that lies, and one that breaks."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from adapters.upstream.dialects import dialect
from adapters.upstream.proofs import Sign, distance, problems
from adapters.upstream.upstream_answerer import UpstreamAnswerer
from application.ports.serving import AnswerFailedError, Call
from domain.errors import UsageError
from tests.upstream_world import BASE, FakeVllm, answerer, raw_server

NAMES = ("calendar", "claims", "code")
CHAT = {"messages": [{"role": "user", "content": "hello"}], "top_k": 3}


def call(adapter: str | None, **body: Any) -> Call:
    return Call("chat/completions", {**CHAT, **body}, adapter, adapter or BASE, "req-1")


def proved(engine: UpstreamAnswerer) -> UpstreamAnswerer:
    asyncio.run(engine.prove(NAMES))
    return engine


async def chunks(engine: UpstreamAnswerer, one: Call) -> list[Any]:
    return [chunk async for chunk in engine.stream(one)]


@pytest.mark.parametrize("logprobs", [True, False])
def test_every_adapter_of_a_good_upstream_is_offered(logprobs: bool) -> None:
    engine = proved(answerer(FakeVllm(logprobs=logprobs)))
    assert (engine.offered, dict(engine.refused), engine.base_name) == (NAMES, {}, BASE)


@pytest.mark.parametrize("logprobs", [True, False])
def test_an_adapter_that_is_silently_the_base_or_another_one_is_not_offered(logprobs: bool) -> None:
    engine = proved(answerer(FakeVllm(silent={"claims"}, logprobs=logprobs)))
    assert engine.offered == ("calendar", "code")
    assert engine.refused == {"claims": "it answers exactly as the base model does"}
    engine = proved(answerer(FakeVllm(twins={"claims": "code"}, logprobs=logprobs)))
    assert engine.offered == ("calendar",)
    assert engine.refused["claims"] == "it answers exactly as code does"


def test_an_adapter_of_another_base_or_that_is_missing_or_fails_is_not_offered() -> None:
    fake = FakeVllm({"calendar": "other-base", "claims": BASE}, faults={"claims": 500})
    engine = proved(answerer(fake, base=BASE))
    assert engine.offered == ()
    assert engine.refused["calendar"] == f"the upstream says that its base model is 'other-base', not {BASE!r}"
    assert "has no model 'code'" in engine.refused["code"]
    assert "status 500" in engine.refused["claims"]


def test_noise_is_no_proof() -> None:
    base = [Sign("x", {"a": -1.0, "b": -2.0})], [Sign("x", {"a": -1.1, "b": -2.0})]
    near, far = [Sign("x", {"a": -1.2, "b": -2.1})], [Sign("x", {"a": -2.0, "b": -1.0})]
    assert problems(base, {"near": near, "far": far}) == {"near": "it answers exactly as the base model does"}
    assert distance(Sign("", {"a": 0.0}), Sign("", {"b": 0.0})) == float("inf")


def test_names_follow_the_template_and_everything_else_passes_through() -> None:
    fake = FakeVllm({f"{BASE}:{name}": BASE for name in NAMES})
    engine = proved(answerer(fake, "sglang", base=BASE))
    answer = asyncio.run(engine.complete(call("code", tools=[1])))
    body, headers = fake.seen[-1]
    assert body == {**CHAT, "tools": [1], "model": f"{BASE}:code", "stream": False}
    assert headers["x-request-id"] == "req-1"
    assert answer["model"] == "code"
    assert answer["choices"][0]["message"]["content"] == f"{BASE}:code answers"
    assert [c["model"] for c in asyncio.run(chunks(engine, call("code")))] == ["code"] * 3


@pytest.mark.parametrize(
    ("fault", "status", "code"),
    [
        (400, 400, "context_length_exceeded"),
        (401, 502, "upstream_error"),
        (404, 502, "upstream_error"),
        (422, 400, "context_length_exceeded"),
        (429, 429, "queue_full"),
        (500, 502, "upstream_error"),
        (503, 502, "upstream_error"),
        ("wrong-echo", 502, "upstream_echo_mismatch"),
        ("garbage", 502, "upstream_error"),
    ],
)
def test_an_upstreams_failures_stay_failures_whole_and_streamed(fault: Any, status: int, code: str) -> None:
    fake = FakeVllm()
    mismatches: list[int] = []

    async def main() -> None:
        engine = answerer(fake, stall_seconds=0.2, answer_seconds=0.2)
        engine.on_mismatch = lambda: mismatches.append(1)
        await engine.prove(NAMES)
        fake.faults = {"claims": fault}
        for ask in (engine.complete(call("claims")), chunks(engine, call("claims"))):
            with pytest.raises(AnswerFailedError) as caught:
                async with asyncio.timeout(2):
                    await ask
            assert (caught.value.status, caught.value.code) == (status, code)
            assert caught.value.retry_after == (7 if fault == 429 else None)

    asyncio.run(main())
    assert len(mismatches) == (2 if fault == "wrong-echo" else 0)


@pytest.mark.parametrize(
    ("fault", "code"),
    [
        ("wrong-echo-later", "upstream_echo_mismatch"),
        ("error-later", "upstream_error"),
        ("cut-later", "upstream_error"),
    ],
)
def test_a_stream_that_goes_wrong_later_raises_after_what_was_right(fault: str, code: str) -> None:
    fake = FakeVllm(faults={})

    async def main() -> tuple[int, AnswerFailedError]:
        engine = answerer(fake)
        await engine.prove(NAMES)
        fake.faults = {"claims": fault}
        seen: list[Any] = []

        async def read() -> None:
            async for chunk in engine.stream(call("claims")):
                seen.append(chunk)

        with pytest.raises(AnswerFailedError) as caught:
            await read()
        return len(seen), caught.value

    seen, error = asyncio.run(main())
    assert seen == 2
    assert (error.status, error.code) == (502, code)


async def _reset(reader: Any, writer: Any) -> None:
    await reader.read(10)
    writer.transport.abort()


async def _half(reader: Any, writer: Any) -> None:
    await reader.readuntil(b"\r\n\r\n")
    writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ncontent-length: 999\r\n\r\ndata: {")
    await writer.drain()
    writer.close()


async def _silent(reader: Any, writer: Any) -> None:
    await asyncio.sleep(30)


@pytest.mark.parametrize(("script", "status"), [(_reset, 502), (_half, 502), (_silent, 504)])
def test_connections_that_break_or_stall(script: Any, status: int) -> None:
    async def main(url: str) -> None:
        engine = answerer(None, base=BASE, url=url, stall_seconds=0.3, answer_seconds=0.3)
        engine.dialect._base = BASE  # type: ignore[attr-defined]
        for ask in (engine.complete(call("code")), chunks(engine, call("code")), engine.prove(NAMES)):
            with pytest.raises(AnswerFailedError) as caught:
                await ask
            assert caught.value.status == status
        await engine.aclose()

    with raw_server(script) as url:
        asyncio.run(main(url))
    with pytest.raises(AnswerFailedError, match="the upstream failed"):
        asyncio.run(answerer(None, url="http://127.0.0.1:9", base=BASE).prove(NAMES))


def test_a_pooled_connection_that_was_closed_meanwhile_is_tried_once_more() -> None:
    served: list[int] = []

    async def once_then_close(reader: Any, writer: Any) -> None:
        served.append(1)
        await reader.readuntil(b"\r\n\r\n")
        if len(served) == 1:
            writer.close()
            return
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}")
        await writer.drain()

    async def main(url: str) -> Any:
        engine = answerer(None, url=url, base=BASE)
        found = await engine.http.get("/props")
        await engine.aclose()
        return found

    with raw_server(once_then_close) as url:
        assert asyncio.run(main(url)) == {}
    assert len(served) == 2


def test_dialects_are_checked() -> None:
    with pytest.raises(UsageError, match="unknown kind of upstream 'tgi'"):
        dialect("tgi")
    with pytest.raises(UsageError, match="same model for every adapter"):
        dialect("vllm", "fixed")
    with pytest.raises(UsageError, match="has other fields"):
        dialect("vllm", "{name}")
    with pytest.raises(UsageError, match="--upstream-base"):
        dialect("openai")
    with pytest.raises(UsageError, match=r"has no model 'nope'.*tiny-base"):
        asyncio.run(answerer(FakeVllm(), base="nope").prove(NAMES))
