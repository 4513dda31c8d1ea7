"""Asking an upstream over pooled connections: every way in which that fails, as one kind of error."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any, Final

import httpx2
import orjson
from attrs import define

from application.ports.serving import AnswerFailedError

MAX_ANSWER_BYTES: Final = 64 * 2**20
_SHOWN: Final = 300
_TOO_LONG: Final = ("context length", "context_length", "exceed_context_size", "too many tokens")


def upstream_client(
    url: str, *, key: str | None = None, inside: Any = None, connections: int = 256
) -> httpx2.AsyncClient:
    """Return a client for the upstream's address, which may end in ``/v1``; `inside` is an application."""
    base = url.rstrip("/").removesuffix("/v1")
    headers = {} if key is None else {"authorization": f"Bearer {key}"}
    limits = httpx2.Limits(max_connections=connections, max_keepalive_connections=connections, keepalive_expiry=4.0)
    host = httpx2.URL(base).host
    local = host in ("localhost", "127.0.0.1", "::1")  # no proxy stands between a machine and itself
    transport = None if inside is None else httpx2.ASGITransport(inside)
    return httpx2.AsyncClient(base_url=base, headers=headers, limits=limits, trust_env=not local, transport=transport)


@define(eq=False)
class UpstreamHttp:
    """Requests to one upstream.

    Attributes:
        client: the connections.
        connect_seconds: how long connecting may take.
        stall_seconds: how long a stream may be silent.
        answer_seconds: how long a whole answer may take.
        count: is told the outcome of every attempt: a status, or "error".
    """

    client: httpx2.AsyncClient
    connect_seconds: float = 5.0
    stall_seconds: float = 60.0
    answer_seconds: float = 300.0
    count: Callable[[str], None] = lambda _code: None

    async def get(self, path: str) -> Any:
        """Return the object at a path; raises AnswerFailedError."""
        return await self._whole("GET", path, None, {})

    async def post(self, path: str, body: Any, headers: Mapping[str, str] | None = None) -> Any:
        """Return the object that answers a body; raises AnswerFailedError."""
        return await self._whole("POST", path, body, headers or {})

    async def events(self, path: str, body: Any, headers: Mapping[str, str]) -> AsyncIterator[dict[str, Any]]:
        """Yield the objects of a stream of events; raises AnswerFailedError, also when it ends before its end."""
        timeout = httpx2.Timeout(self.stall_seconds, connect=self.connect_seconds)
        async with self._asked("POST", path, body, headers, timeout) as response:
            async for event in httpx2.EventSource(response, MAX_ANSWER_BYTES):
                if event.data == "[DONE]":
                    return
                yield _stream_object(event.data)
        raise _failed("the upstream ended its answer in the middle")

    async def aclose(self) -> None:
        """Close the connections."""
        await self.client.aclose()

    async def _whole(self, method: str, path: str, body: Any, headers: Mapping[str, str]) -> Any:
        timeout = httpx2.Timeout(self.answer_seconds, connect=self.connect_seconds)
        async with self._asked(method, path, body, headers, timeout) as response:
            content = await _content(response)
        try:
            return orjson.loads(content)
        except orjson.JSONDecodeError:
            raise _failed("the upstream's answer is not JSON") from None

    @asynccontextmanager
    async def _asked(
        self, method: str, path: str, body: Any, headers: Mapping[str, str], timeout: httpx2.Timeout
    ) -> AsyncIterator[httpx2.Response]:
        """Hold a response with a good status; every failure within becomes an AnswerFailedError."""
        try:
            response = await self._send(method, path, body, headers, timeout)
            try:
                self.count(str(response.status_code))
                if response.status_code != 200:
                    raise _refusal(response, await _content(response))
                yield response
            finally:
                await response.aclose()
        except httpx2.TimeoutException as error:
            raise AnswerFailedError("the upstream did not answer in time", status=504, code="timeout") from error
        except httpx2.HTTPError as error:
            raise _failed(f"the upstream failed: {str(error) or type(error).__name__}") from error

    async def _send(
        self, method: str, path: str, body: Any, headers: Mapping[str, str], timeout: httpx2.Timeout
    ) -> httpx2.Response:
        content = None if body is None else orjson.dumps(body)
        sent = {**headers, **({} if content is None else {"content-type": "application/json"})}

        async def once() -> httpx2.Response:
            request = self.client.build_request(method, path, content=content, headers=sent, timeout=timeout)
            try:
                return await self.client.send(request, stream=True)
            except httpx2.HTTPError:
                self.count("error")
                raise

        try:
            return await once()
        except httpx2.ConnectError:
            return await once()
        except httpx2.RemoteProtocolError as error:
            if "without sending a response" not in str(error):
                raise
            return await once()  # a pooled connection that the upstream had closed meanwhile


async def _content(response: httpx2.Response) -> bytes:
    parts, size = [], 0
    async for part in response.aiter_bytes():
        size += len(part)
        if size > MAX_ANSWER_BYTES:
            raise _failed("the upstream's answer is too large")
        parts.append(part)
    return b"".join(parts)


def _stream_object(data: str) -> dict[str, Any]:
    try:
        value = orjson.loads(data)
    except orjson.JSONDecodeError:
        raise _failed("the upstream's stream holds something that is not JSON") from None
    if not isinstance(value, dict):
        raise _failed("the upstream's stream holds something that is not an object")
    if value.get("error") or value.get("object") == "error":
        raise _failed(f"the upstream failed: {_message(value)}")
    return value


def _refusal(response: httpx2.Response, content: bytes) -> AnswerFailedError:
    """Return what a client is told of an upstream's bad status: its own mistakes are told, the upstream's are 502."""
    status = response.status_code
    try:
        message = _message(orjson.loads(content))
    except orjson.JSONDecodeError:
        message = content.decode("utf-8", "replace").strip()[:_SHOWN]
    if status in (400, 413, 422):
        too_long = any(each in message.lower() for each in _TOO_LONG)
        code = "context_length_exceeded" if too_long else "invalid_request_error"
        return AnswerFailedError(message, status=413 if status == 413 else 400, code=code)
    if status == 429:
        after = response.headers.get("retry-after", "1")
        seconds = int(after) if after.isdecimal() else 1
        return AnswerFailedError("the upstream is busy", status=429, code="queue_full", retry_after=max(1, seconds))
    if status in (401, 403):
        return _failed(f"the upstream refuses this server's key (status {status})")
    return _failed(f"the upstream answered with status {status}: {message}")


def _message(value: Any) -> str:
    error = value.get("error", value) if isinstance(value, dict) else value
    told = error.get("message", error) if isinstance(error, dict) else error
    return str(told)[:_SHOWN]


def _failed(what: str) -> AnswerFailedError:
    return AnswerFailedError(what, status=502, code="upstream_error")
