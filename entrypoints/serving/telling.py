"""Changing another application's answers on their way out, so that they say who answered."""

from __future__ import annotations

from typing import Any

import orjson
from attrs import define, field
from starlette.datastructures import MutableHeaders
from starlette.types import Message, Send

from application.serving.choose_answerer import Choice
from entrypoints.serving.errors import ApiError
from entrypoints.serving.routing_object import routing_headers, routing_object
from entrypoints.serving.serving import Serving
from entrypoints.serving.settings import AUTO


@define(eq=False)
class Telling:
    """A ``send`` that says who answers, and stops an answer that comes from somebody else."""

    send: Send
    choice: Choice
    serving: Serving
    debug: bool
    status: int = 499
    usage: dict[str, int] = field(factory=dict)
    _start: Message = field(factory=dict)
    _rest: bytes = b""
    _streams: bool = False
    _first: bool = True
    _over: bool = False

    @property
    def model(self) -> str:
        """The name of the model that is to answer."""
        return self.choice.adapter or self.serving.answerer.base_name

    async def __call__(self, message: Message) -> None:
        """Pass one message on, or hold it until it can be told."""
        if self._over:
            return
        if message["type"] == "http.response.start":
            await self._begin(message)
        elif message["type"] != "http.response.body":
            await self.send(message)
        elif self._streams:
            await self._stream(message)
        else:
            await self._whole(message)

    async def _begin(self, message: Message) -> None:
        self.status, self._start = message["status"], message
        headers = MutableHeaders(scope=message)
        headers.update(routing_headers(self.choice, debug=self.debug))
        self._streams = headers.get("content-type", "").startswith("text/event-stream")
        if self._streams:
            await self.send(message)

    async def _whole(self, message: Message) -> None:
        self._rest += message.get("body", b"")
        if message.get("more_body"):
            return
        content, status = self._rest, self.status
        if status == 200:
            try:
                content = orjson.dumps(self._told(json_object(content)))
            except ApiError as error:
                content, self.status = orjson.dumps(error.body), error.status
        headers = MutableHeaders(scope=self._start)
        headers["content-length"] = str(len(content))
        await self.send({**self._start, "status": self.status})
        await self.send({"type": "http.response.body", "body": content})

    async def _stream(self, message: Message) -> None:
        *events, self._rest = (self._rest + message.get("body", b"")).split(b"\n\n")
        more = bool(message.get("more_body"))
        out = b""
        try:
            for event in events:
                out += self._event(event)
        except ApiError as error:
            out += b"data: " + orjson.dumps(error.body) + b"\n\n"
            self.status, self._over, more = error.status, True, False
        if not more and self._rest and not self._over:
            out += self._rest
        await self.send({"type": "http.response.body", "body": out, "more_body": more})

    def _event(self, event: bytes) -> bytes:
        value = json_object(event.removeprefix(b"data:")) if event.startswith(b"data:") else None
        if value is None or "error" in value:
            return event + b"\n\n"
        tell = self._first or ("usage" in value and not value.get("choices"))
        self._first = False
        line: bytes = orjson.dumps(self._told(value, tell=tell))
        return b"data: " + line + b"\n\n"

    def _told(self, value: dict[str, Any] | None, *, tell: bool = True) -> dict[str, Any]:
        if value is None or value.get("model") != self.model:
            self.serving.metrics.mismatches.inc()
            found = None if value is None else value.get("model")
            raise ApiError(
                502,
                f"vLLM answered as {str(found)[:80]!r} where {self.model!r} was asked",
                code="upstream_echo_mismatch",
            )
        if isinstance(usage := value.get("usage"), dict):
            self.usage = {key: count for key, count in usage.items() if isinstance(count, int)}
        return {**value, "routing": routing_object(self.choice, debug=self.debug)} if tell else value


@define(eq=False)
class WithAuto:
    """A ``send`` that puts the router's own name first in a list of models, and takes paths out of it."""

    send: Send
    _start: Message = field(factory=dict)
    _content: bytes = b""

    async def __call__(self, message: Message) -> None:
        """Hold the answer until it is whole."""
        if message["type"] == "http.response.start":
            self._start = message
            return
        self._content += message.get("body", b"")
        if message.get("more_body"):
            return
        content, listed = self._content, json_object(self._content)
        if self._start["status"] == 200 and listed is not None and isinstance(listed.get("data"), list):
            data = [{**each, "root": each.get("id")} for each in listed["data"]]
            first = {**(data[0] if data else {}), "id": AUTO, "root": AUTO, "parent": None}
            content = orjson.dumps({**listed, "data": [first, *data]})
        MutableHeaders(scope=self._start)["content-length"] = str(len(content))
        await self.send(self._start)
        await self.send({"type": "http.response.body", "body": content})


def json_object(content: bytes) -> dict[str, Any] | None:
    """Return the object in some JSON, or None."""
    try:
        value = orjson.loads(content)
    except orjson.JSONDecodeError:
        return None
    return value if isinstance(value, dict) else None
