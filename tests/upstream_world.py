"""Servers that play an upstream: one that behaves as vLLM does, with faults to order, and raw ones that misbehave."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any
from zlib import crc32

import httpx2
from attrs import define, field
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from adapters.upstream.dialects import Dialect, dialect
from adapters.upstream.upstream_answerer import UpstreamAnswerer
from adapters.upstream.upstream_http import UpstreamHttp, upstream_client
from adapters.upstream.upstream_scoring import UpstreamAnswerScorer, upstream_scorer

BASE = "tiny-base"


@define
class FakeVllm:
    """Answers as vLLM does, with the name of the model in every text.

    Attributes:
        adapters: its adapters, with the parent that it tells of each.
        silent: adapters that it serves as the bare base model, as vLLM does when modules do not match.
        twins: adapters that it serves as another one.
        faults: what happens to requests of a model: a status, "wrong-echo", "wrong-echo-later", "error-later",
            "cut-later", "stall", "garbage".
        logprobs: whether it tells probabilities.
        key: the key that it asks for.
        longest: tokens that fit.
        words: the words behind tokens.
        seen: every body that came, with its headers.
    """

    adapters: dict[str, str] = field(factory=lambda: dict.fromkeys(("calendar", "claims", "code"), BASE))
    silent: set[str] = field(factory=set)
    twins: dict[str, str] = field(factory=dict)
    faults: dict[str, Any] = field(factory=dict)
    logprobs: bool = True
    key: str | None = None
    longest: int = 5000
    words: dict[int, str] = field(factory=dict)
    seen: list[tuple[dict[str, Any], dict[str, str]]] = field(factory=list)
    connections: set[Any] = field(factory=set)

    @property
    def app(self) -> Starlette:
        return Starlette(
            routes=[
                Route("/v1/models", self.models),
                Route("/v1/chat/completions", self.answer, methods=["POST"]),
                Route("/v1/completions", self.answer, methods=["POST"]),
                Route("/tokenize", self.tokenize, methods=["POST"]),
            ]
        )

    async def tokenize(self, request: Request) -> Response:
        body = await request.json()
        ids = self.ids(body["messages"], body["add_generation_prompt"])
        return JSONResponse({"count": len(ids), "max_model_len": self.longest, "tokens": ids})

    def ids(self, messages: list[dict[str, Any]], add_generation_prompt: bool) -> list[int]:
        """Every word is a token, and so are the marks of turns and the line ends after them."""
        words = [
            word
            for each in messages
            for word in (
                f"<{each['role']}>",
                *each["content"].split(),
                *map(str, each.get("tool_calls", ())),
                "</>",
                "\n",
            )
        ]
        words += ["<assistant>"] if add_generation_prompt else []
        for word in words:
            self.words.setdefault(crc32(word.encode()), word)
        return [crc32(word.encode()) for word in words]

    def logprob(self, name: str, before: list[int], token: int) -> float:
        """The log-probability of a token after others under a model."""
        return -0.1 - crc32(f"{name} {before[-1]} {token}".encode()) % 10_000 / 3000

    async def models(self, request: Request) -> Response:
        assert request.app is not None  # where vLLM's handlers find their engine
        data = [{"id": BASE, "root": "/models/tiny", "parent": None}]
        data += [{"id": name, "root": f"/loras/{name}", "parent": parent} for name, parent in self.adapters.items()]
        return JSONResponse({"object": "list", "data": data})

    async def answer(self, request: Request) -> Response:
        assert request.app is not None
        body = await request.json()
        self.seen.append((body, dict(request.headers)))
        self.connections.add(request.client)
        if self.key is not None and request.headers.get("authorization") != f"Bearer {self.key}":
            return JSONResponse({"error": "Unauthorized"}, 401)
        name = body["model"]
        if name != BASE and name not in self.adapters:
            return JSONResponse({"error": {"message": f"The model `{name}` does not exist.", "code": 404}}, 404)
        fault = self.faults.get(name)
        if isinstance(fault, int):
            headers = {"retry-after": "7"} if fault == 429 else {}
            error = {"error": {"message": f"status {fault}: maximum context length", "code": fault}}
            return JSONResponse(error, fault, headers)
        if fault == "garbage":
            return Response("<html>", 200, media_type="text/event-stream" if body.get("stream") else "text/html")
        if fault == "stall":
            await asyncio.sleep(5)
        if isinstance(body.get("prompt"), list) and len(body["prompt"]) >= self.longest:
            return JSONResponse({"error": {"message": "exceeds the maximum context length", "code": 400}}, 400)
        if body.get("stream"):
            return StreamingResponse(self.stream(body, fault), media_type="text/event-stream")
        return JSONResponse(self.whole(body, "another" if fault == "wrong-echo" else name))

    def really(self, name: str) -> str:
        return BASE if name in self.silent else self.twins.get(name, name)

    def whole(self, body: dict[str, Any], shown: str) -> dict[str, Any]:
        text = f"{self.really(body['model'])} answers"
        chat = "messages" in body
        choice: dict[str, Any] = {"index": 0, "finish_reason": "stop"}
        choice |= {"message": {"role": "assistant", "content": text}} if chat else {"text": text}
        if body.get("logprobs") and self.logprobs:
            strength = sum(map(ord, self.really(body["model"]))) / 1000
            top = [{"token": token, "logprob": -strength * n} for n, token in enumerate("abcde", 1)]
            choice["logprobs"] = {"content": [{"token": "a", "logprob": -strength, "top_logprobs": top}]}
        if "prompt_logprobs" in body and self.logprobs:
            choice["prompt_logprobs"] = self.prompt_logprobs(self.really(body["model"]), body["prompt"])
        usage = {"prompt_tokens": 5, "completion_tokens": 2, "total_tokens": 7}
        return {"id": "up-1", "object": "chat.completion", "model": shown, "choices": [choice], "usage": usage}

    def prompt_logprobs(self, name: str, ids: list[int]) -> list[Any]:
        """For each token but the first: the token itself, among others that are likelier."""
        told: list[Any] = [None]
        for place, token in enumerate(ids[1:], start=1):
            likely = self.logprob(name, ids[:place], token)
            own = {"logprob": likely, "rank": 9, "decoded_token": self.words.get(token, "?")}
            told.append({str(token): own, "0": {"logprob": -0.01, "rank": 1, "decoded_token": "the"}})
        return told

    async def stream(self, body: dict[str, Any], fault: Any) -> AsyncIterator[str]:
        def event(delta: dict[str, Any], model: str = body["model"], **more: Any) -> str:
            chunk = {"id": "up-1", "object": "chat.completion.chunk", "model": model, "choices": [{"delta": delta}]}
            return f"data: {json.dumps({**chunk, **more})}\n\n"

        yield event({"role": "assistant", "content": ""}, "another" if fault == "wrong-echo" else body["model"])
        yield event({"content": f"{self.really(body['model'])} "})
        if fault == "wrong-echo-later":
            yield event({"content": "x"}, "another")
        if fault == "error-later":
            yield f"data: {json.dumps({'error': {'message': 'engine died', 'code': 500}})}\n\n"
            return
        if fault == "cut-later":
            return
        if fault == "stall-later":
            await asyncio.sleep(5)
        yield event({"content": "answers"})
        if (body.get("stream_options") or {}).get("include_usage"):
            yield event({}, choices=[], usage={"prompt_tokens": 5, "completion_tokens": 2, "total_tokens": 7})
        yield "data: [DONE]\n\n"


def scorer(fake: Any, names: Sequence[str], **options: Any) -> UpstreamAnswerScorer:
    """Return an answer scorer whose upstream is the fake, without a socket."""

    def connect() -> UpstreamHttp:
        client = httpx2.AsyncClient(transport=httpx2.ASGITransport(fake.app), base_url="http://upstream")
        return UpstreamHttp(client, **options)

    return upstream_scorer(connect, dialect("vllm"), names)


def answerer(fake: Any, kind: str = "vllm", *, url: str | None = None, **options: Any) -> UpstreamAnswerer:
    """Return an engine whose upstream is the fake, without a socket, or whatever listens at `url`."""
    made: Dialect = dialect(kind, options.pop("template", None), options.pop("base", None))
    if url is not None:
        client = upstream_client(url)
    else:
        client = httpx2.AsyncClient(transport=httpx2.ASGITransport(fake.app), base_url="http://upstream")
    return UpstreamAnswerer(UpstreamHttp(client, **options), made)


@contextmanager
def raw_server(script: Callable[[Any, Any], Any]) -> Iterator[str]:
    """Run `script(reader, writer)` for every connection; yields the address."""
    ready, stop = threading.Event(), threading.Event()
    found: list[str] = []

    async def main() -> None:
        server = await asyncio.start_server(script, "127.0.0.1", 0)
        found.append(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}")
        ready.set()
        while not stop.is_set():
            await asyncio.sleep(0.02)
        server.close()

    thread = threading.Thread(target=lambda: asyncio.run(main()), daemon=True)
    thread.start()
    ready.wait(5)
    try:
        yield found[0]
    finally:
        stop.set()
        thread.join(5)


@define
class FakeLlama:
    """Answers as llama.cpp's server does, traps included: who answers stands in every text.

    A request without ``lora`` runs with the scales of the server, which starts with all adapters at 1; in a slot
    whose prompt is cached it goes on with the slot's last adapters. Unknown numbers are ignored, ``model`` is a file.

    Attributes:
        files: the adapters' files, by number.
        slots: how many prompts it keeps.
        silent: files that change nothing.
        seen: every body that came.
    """

    files: list[str] = field(factory=lambda: [f"/loras/{name}.gguf" for name in ("calendar", "claims", "code")])
    slots: int = 4
    silent: set[str] = field(factory=set)
    seen: list[dict[str, Any]] = field(factory=list)
    scales: dict[int, float] = field(init=False)
    _held: dict[int, tuple[str, ...]] = field(factory=dict, init=False)

    def __attrs_post_init__(self) -> None:
        self.scales = dict.fromkeys(range(len(self.files)), 1.0)

    @property
    def app(self) -> Starlette:
        return Starlette(
            routes=[
                Route("/lora-adapters", self.adapters, methods=["GET", "POST"]),
                Route("/props", self.props),
                Route("/v1/chat/completions", self.answer, methods=["POST"]),
            ]
        )

    async def adapters(self, request: Request) -> Response:
        if request.method == "POST":
            self.scales |= {each["id"]: each["scale"] for each in await request.json()}
        listed = [{"id": n, "path": path, "scale": self.scales[n]} for n, path in enumerate(self.files)]
        return JSONResponse(listed)

    async def props(self, _request: Request) -> Response:
        return JSONResponse({"total_slots": self.slots, "model_path": "/models/tiny.gguf"})

    async def answer(self, request: Request) -> Response:
        body = await request.json()
        self.seen.append(body)
        active = self._active(body)
        strength = sum(map(ord, "".join(active))) / 1000
        top = [{"token": token, "logprob": -strength * n} for n, token in enumerate("abcde", 1)]
        message = {"role": "assistant", "content": f"{'+'.join(active) or 'base'} answers"}
        choice = {"index": 0, "finish_reason": "stop", "message": message}
        choice["logprobs"] = {"content": [{"token": "a", "logprob": -strength, "top_logprobs": top}]}
        return JSONResponse(
            {"id": "l-1", "object": "chat.completion", "model": "/models/tiny.gguf", "choices": [choice]}
        )

    def _active(self, body: dict[str, Any]) -> tuple[str, ...]:
        slot = body.get("id_slot", 0)
        if "lora" not in body and slot in self._held:
            return self._held[slot]
        asked = {each["id"]: each["scale"] for each in body["lora"]} if "lora" in body else self.scales
        stems = [path.rsplit("/", 1)[-1].removesuffix(".gguf") for path in self.files]
        active = tuple(stem for n, stem in enumerate(stems) if asked.get(n, 0.0) and stem not in self.silent)
        if body.get("cache_prompt", True):
            self._held[slot] = active
        return active
