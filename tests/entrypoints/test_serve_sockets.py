"""The server behind a real socket: clients that misbehave, and the real ``openai`` client."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import openai
import pytest

from adapters.in_memory.serving import InMemoryAnswerer
from application.ports.serving import AnswerFailedError
from entrypoints.serving.app import serving_app
from entrypoints.serving.server import is_local, listen
from tests.serving_world import LABELS, running, serving, wait_ready


@pytest.fixture(scope="module")
def state() -> Any:
    return serving(api_key="key", max_body=20_000)


@pytest.fixture(scope="module")
def address(state: Any) -> Iterator[str]:
    with running(serving_app(state), read_seconds=0.6, stop_seconds=1) as found:
        wait_ready(found)
        yield found


def say(address: str, *pieces: bytes, pause: float = 0.0, until: float = 5.0) -> bytes:
    """Send bytes piece by piece; return everything that comes until the server hangs up."""
    split = urlsplit(address)
    with socket.create_connection((split.hostname, split.port), timeout=until) as connection:
        heard = b""
        try:
            for piece in pieces:
                connection.sendall(piece)
                time.sleep(pause)
            while more := connection.recv(65536):
                heard += more
        except (ConnectionError, TimeoutError):
            return heard + b"(cut)"
        return heard


HEAD = b"POST /v1/route HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer key\r\nContent-Type: application/json\r\n"


def drip(address: str) -> None:
    split = urlsplit(address)
    with socket.create_connection((split.hostname, split.port)) as connection:
        for byte in HEAD:
            connection.sendall(bytes([byte]))
            time.sleep(0.05)


def test_headers_that_come_a_byte_at_a_time_are_cut_off_before_they_end(address: str) -> None:
    with pytest.raises(ConnectionError):  # bytes do not put the deadline off
        drip(address)


def test_a_silent_connection_is_ended(address: str) -> None:
    heard = say(address)
    assert heard.startswith(b"HTTP/1.1 408")
    assert b'"code":"request_timeout"' in heard


def test_a_body_that_never_comes_is_ended(address: str) -> None:
    heard = say(address, HEAD + b"Content-Length: 100\r\n\r\n{")
    assert heard.startswith(b"HTTP/1.1 408")


def test_a_body_that_is_refused_early_is_not_read_for_ever(address: str) -> None:
    heard = say(address, HEAD + b"Content-Length: 999999999\r\n\r\n", *[b"x" * 1000] * 30, pause=0.05)
    assert b"HTTP/1.1 413" in heard or heard.endswith(b"(cut)")


def test_headers_that_are_too_large_are_refused(address: str) -> None:
    heard = say(address, HEAD + b"X-Long: " + b"x" * 70_000 + b"\r\nConnection: close\r\nContent-Length: 2\r\n\r\n{}")
    assert heard.startswith(b"HTTP/1.1 431")
    assert b'"code":"headers_too_large"' in heard
    heard = say(address, HEAD + b"X-Long: ", *[b"x" * 60_000] * 2, pause=0.05)
    assert heard.startswith(b"HTTP/1.1 431")


def test_what_is_no_http_is_refused_in_openais_form(address: str) -> None:
    heard = say(address, b"\x16\x03\x01 hello\r\n\r\n")
    assert heard.startswith(b"HTTP/1.1 400")
    assert b'"code":"invalid_request_error"' in heard


def test_requests_in_a_row_on_one_connection_each_have_their_own_deadline(address: str) -> None:
    split = urlsplit(address)
    request = b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n"
    with socket.create_connection((split.hostname, split.port), timeout=5) as connection:
        for _ in range(3):
            connection.sendall(request[:10])
            time.sleep(0.3)
            connection.sendall(request[10:])
            heard = b""
            while b'{"status":"ok"}' not in heard:
                heard += connection.recv(65536)
            time.sleep(0.4)  # together longer than one deadline; a pause between requests is no slow request


def test_a_client_that_leaves_ends_the_work_for_it() -> None:
    ended = threading.Event()

    class Endless(InMemoryAnswerer):
        async def stream(self, call: Any) -> Any:
            try:
                async for chunk in super().stream(call):
                    while True:
                        yield chunk
                        await asyncio.sleep(0.001)
            finally:
                ended.set()

    state = serving(Endless(LABELS.names))
    with running(serving_app(state)) as address:
        wait_ready(address)
        with openai.OpenAI(base_url=f"{address}/v1", api_key="x", max_retries=0) as client:
            stream = client.chat.completions.create(
                model="auto", messages=[{"role": "user", "content": "a claim"}], stream=True
            )
            next(iter(stream))
            stream.close()
        assert ended.wait(5)


@pytest.fixture(scope="module")
def client(address: str) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{address}/v1", api_key="key", max_retries=0) as made:
        yield made


def test_openai_chat(client: openai.OpenAI) -> None:
    answer = client.chat.completions.create(model="auto", messages=[{"role": "user", "content": "a claim"}])
    assert (answer.model, answer.choices[0].message.content) == ("claims", "claims: a claim")
    assert answer.routing["reason"] == "confident"
    assert answer.usage is not None


def test_openai_streams(client: openai.OpenAI) -> None:
    chunks = list(
        client.chat.completions.create(
            model="auto",
            messages=[{"role": "user", "content": "a claim"}],
            stream=True,
            stream_options={"include_usage": True},
        )
    )
    assert {chunk.model for chunk in chunks} == {"claims"}
    assert "".join(c.choices[0].delta.content or "" for c in chunks if c.choices) == "claims: a claim"
    assert chunks[0].routing["adapter"] == "claims"
    assert chunks[-1].usage is not None


def test_openai_completions_and_models(client: openai.OpenAI) -> None:
    answer = client.completions.create(model="auto", prompt="write a function", extra_body={"routing": {}})
    assert (answer.model, answer.choices[0].text) == ("code", "code: write a function")
    assert [model.id for model in client.models.list()] == ["auto", "base-model", *LABELS.names]
    assert client.models.retrieve("code").id == "code"


def test_openai_errors_are_its_own_kinds(client: openai.OpenAI, address: str, state: Any) -> None:
    with pytest.raises(openai.NotFoundError) as caught:
        client.chat.completions.create(model="nope", messages=[{"role": "user", "content": "x"}])
    assert (caught.value.code, caught.value.param) == ("model_not_found", "model")
    with pytest.raises(openai.AuthenticationError):
        openai.OpenAI(base_url=f"{address}/v1", api_key="wrong", max_retries=0).models.list()
    with pytest.raises(openai.ConflictError):
        client.chat.completions.create(
            model="auto",
            messages=[{"role": "user", "content": "hello"}],
            extra_body={"routing": {"fallback": "error"}},
        )
    state.answerer.fails = AnswerFailedError("gone", status=502, code="upstream_error")
    try:
        with pytest.raises(openai.APIError, match="gone"):
            list(
                client.chat.completions.create(
                    model="auto", messages=[{"role": "user", "content": "a claim"}], stream=True
                )
            )
    finally:
        state.answerer.fails = None


@pytest.mark.skipif(not hasattr(openai.OpenAI, "decisions"), reason="openai before 3.57 has no decisions")
def test_openai_decisions(client: openai.OpenAI) -> None:
    question: Any = {
        "type": "choice",
        "name": "who",
        "instructions": "Who should answer?",
        "choices": [{"value": name} for name in LABELS.names],
    }
    two: Any = {**question, "choices": [{"value": "calendar"}, {"value": "code"}]}
    found = client.decisions.create(model="auto", input="file a claim", questions=[question, two])
    first = found.answers[0]
    assert first.type == "choice"
    assert (first.choice, first.name, first.confidence) == ("claims", "who", pytest.approx(0.9))
    assert [(each.value, each.probability) for each in first.probabilities] == [
        ("calendar", pytest.approx(0.05)),
        ("claims", pytest.approx(0.9)),
        ("code", pytest.approx(0.05)),
    ]
    assert first.probabilities[0].value == "calendar"
    turns: Any = [
        {"role": "user", "content": [{"type": "input_text", "text": "write a function"}]},
        {"type": "function_call", "name": "f", "call_id": "1", "arguments": "{}"},
        {"type": "function_call_output", "call_id": "1", "output": "a claim"},
    ]
    assert client.decisions.create(model="auto", input=turns, questions=[question]).answers[0].choice == "code"
    assert client.decisions.create(model="auto", input="hello", questions=[question]).answers[0].type == "refusal"
    for bad in ({**question, "choices": [{"value": "nope"}]}, {"type": "predicate", "instructions": "x"}):
        with pytest.raises(openai.BadRequestError):
            client.decisions.create(model="auto", input="hello", questions=[bad])


def test_connections_send_at_once() -> None:
    with listen("127.0.0.1", 0) as listening, socket.create_connection(listening.getsockname()):
        listening.setblocking(True)
        accepted, _ = listening.accept()
        with accepted:
            assert accepted.proto == socket.IPPROTO_TCP  # what asyncio sets TCP_NODELAY by


def test_which_hosts_only_this_machine_reaches() -> None:
    hosts = ("127.0.0.1", "localhost", "::1", "0.0.0.0", "::", "192.168.1.2", "box")
    assert [is_local(host) for host in hosts] == [True, True, True, False, False, False, False]
