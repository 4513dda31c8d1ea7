"""A server over engines without a model, reached through a real socket or without one."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx2
from attrs import define, field
from starlette.testclient import TestClient

from adapters.in_memory.serving import InMemoryAnswerer
from application.ports.serving import Answerer
from application.routing.route_prompts import RouteRequest
from domain.errors import RemoteError
from domain.labels import LabelMap
from domain.routing import AbstentionThresholds, RouteScores, RoutingDecision, decide
from domain.turns import TurnChoice
from entrypoints.serving.app import serving_app
from entrypoints.serving.server import listen, server_for
from entrypoints.serving.serving import Serving
from entrypoints.serving.settings import ServeSettings

LABELS = LabelMap(("calendar", "claims", "code"))
LIMITS = AbstentionThresholds(0.5, 0.5)
WORDS = {"meeting": 0, "claim": 1, "function": 2}


@define
class WordRouter:
    """A PromptRouter that knows one word per adapter; anything else is out of scope."""

    labels: LabelMap = LABELS
    thresholds: AbstentionThresholds = LIMITS
    turn: TurnChoice = TurnChoice.LAST
    sha256: str = "a" * 64
    base_name: str = "base"
    asked: list[str] = field(factory=list)
    broken: bool = False

    async def route(self, request: RouteRequest) -> RoutingDecision:
        text = request.prompts[0]
        self.asked.append(text)
        if self.broken:
            raise RemoteError("the model is gone")
        hits = [label for word, label in WORDS.items() if word in text]
        shares = tuple((0.9 if label in hits else 0.05) for label in range(3)) if hits else (0.34, 0.33, 0.33)
        scores = RouteScores(tuple(s / sum(shares) for s in shares), 0.0 if hits else 1.0)
        return decide(scores, self.labels, request.thresholds or self.thresholds, request.disabled)


class ListLog:
    """A decision log that keeps its lines."""

    dropped = 0

    def __init__(self) -> None:
        self.lines: list[dict[str, Any]] = []

    def append(self, line: Any) -> None:
        self.lines.append(json.loads(json.dumps(line)))

    def close(self) -> None:
        pass


def serving(answerer: Answerer | None = None, *, router: Any = None, **settings: Any) -> Serving:
    """Return a server's state over a router that knows three words."""

    async def load() -> Any:
        return router or WordRouter()

    return Serving(ServeSettings(**settings), answerer or InMemoryAnswerer(LABELS.names), load, log=ListLog())


@contextmanager
def client(state: Serving, **headers: str) -> Iterator[TestClient]:
    """Reach the application without a socket, once its router is loaded."""
    with TestClient(serving_app(state, watch=False), headers=headers) as made:
        assert made.portal is not None
        made.portal.call(state.reload)
        yield made


@contextmanager
def running(app: Any, **options: Any) -> Iterator[str]:
    """Run an application behind a real socket; yields its address."""
    socket = listen("127.0.0.1", 0)
    server = server_for(app, **options)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [socket]}, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{socket.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(20)
        socket.close()
        assert not thread.is_alive()


def wait_ready(address: str, tries: int = 200) -> None:
    """Wait until the server says that it is ready."""
    for _ in range(tries):
        if httpx2.get(f"{address}/ready").status_code == 200:
            return
        time.sleep(0.02)
    raise AssertionError(httpx2.get(f"{address}/ready").text)


def ask(text: str, **more: Any) -> dict[str, Any]:
    """Return a chat request's body."""
    return {"model": "auto", "messages": [{"role": "user", "content": text}], **more}


def events(text: str) -> list[Any]:
    """Return the objects in a stream of server-sent events; "[DONE]" as it is."""
    found = [line.removeprefix("data: ") for line in text.splitlines() if line.startswith("data: ")]
    return [each if each == "[DONE]" else json.loads(each) for each in found]
