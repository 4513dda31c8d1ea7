"""What every request must pass before it is read (a key, a host, a content type), and what every response bears."""

from __future__ import annotations

import hmac
import re
from secrets import token_hex
from time import perf_counter
from typing import Final

import structlog
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from entrypoints.serving.errors import ApiError, as_api_error, bad_request
from entrypoints.serving.metrics import ServeMetrics
from entrypoints.serving.settings import ServeSettings

OPEN: Final = frozenset({"/", "/health", "/ready", "/metrics"})
"""Paths that need no key: they tell nothing of prompts."""

MAX_HEADER_BYTES: Final = 65_536
LOCAL_HOSTS: Final = frozenset({"localhost", "127.0.0.1", "[::1]"})
_REQUEST_ID = re.compile(r"[A-Za-z0-9._:-]{1,128}")


def request_id(headers: Headers) -> str:
    """Return the request's name: the client's own where it is harmless, else a new one."""
    given = headers.get("x-request-id", "")
    return given if _REQUEST_ID.fullmatch(given) else token_hex(16)


def has_key(headers: Headers, key: str | None) -> bool:
    """Tell whether a request brings the key; the comparison takes the same time wherever the two differ."""
    if key is None:
        return True
    scheme, _, given = headers.get("authorization", "").partition(" ")
    same = hmac.compare_digest(given.strip().encode("latin-1"), key.encode())
    return same and scheme.lower() == "bearer"


class Guard:
    """An ASGI middleware around the application.

    Refuses what must not be read, names every request, counts it, and writes one log line without any prompt. What
    the application did not foresee becomes a 500 with a name, and its traceback goes to the log.
    """

    def __init__(self, app: ASGIApp, settings: ServeSettings, metrics: ServeMetrics) -> None:
        self.app = app
        self.settings = settings
        self.metrics = metrics
        self.log = structlog.get_logger("moe-router.serve")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass an HTTP request on, or refuse it."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        headers, start, status = Headers(scope=scope), perf_counter(), None
        name = request_id(headers)
        scope["state"] = {**scope.get("state", {}), "request_id": name, "notes": {}}

        async def named(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                MutableHeaders(scope=message)["x-request-id"] = name
            await send(message)

        try:
            refusal = self._refusal(scope, headers)
            handler = refusal.response() if refusal else self.app
            await handler(scope, _limited(receive, self.settings.max_body), named)
        except Exception as error:
            self.log.exception("bug", request_id=name)
            if status is None:
                await as_api_error(error).response()(scope, receive, named)
        finally:
            self._account(scope, status or 499, perf_counter() - start)

    def _refusal(self, scope: Scope, headers: Headers) -> ApiError | None:
        if sum(len(name) + len(value) for name, value in headers.raw) > MAX_HEADER_BYTES:
            return ApiError(431, f"the headers are larger than {MAX_HEADER_BYTES} bytes", code="headers_too_large")
        host = re.sub(r":\d+$", "", headers.get("host", ""))
        if self.settings.local_only and host and host not in LOCAL_HOSTS:
            return ApiError(403, f"this server does not answer to the name {host[:80]!r}", code="forbidden_host")
        if scope["path"] not in OPEN and not has_key(headers, self.settings.api_key):
            return ApiError(401, "the API key is missing or wrong", code="invalid_api_key")
        kind = headers.get("content-type", "application/json").partition(";")[0].strip().lower()
        if scope["method"] == "POST" and kind != "application/json":
            return bad_request(f"the content type {kind[:80]!r} is not application/json")
        length, limit = headers.get("content-length", "0"), self.settings.max_body
        return None if length.isdecimal() and int(length) <= limit else _too_large(limit)

    def _account(self, scope: Scope, status: int, seconds: float) -> None:
        endpoint = getattr(scope.get("route"), "path", "other")
        self.metrics.requests.labels(endpoint, str(status)).inc()
        self.metrics.duration.labels(endpoint).observe(seconds)
        write = self.log.warning if status >= 500 and endpoint != "/ready" else self.log.info
        write(
            "request",
            request_id=scope["state"]["request_id"],
            method=scope["method"],
            endpoint=endpoint,
            status=status,
            milliseconds=round(seconds * 1000, 1),
            **scope["state"]["notes"],
        )


def _limited(receive: Receive, limit: int) -> Receive:
    """Return `receive`, which refuses a body that grows beyond the limit without having said so."""
    size = 0

    async def limited() -> Message:
        nonlocal size
        message = await receive()
        size += len(message.get("body", b""))
        if size > limit:
            raise _too_large(limit)
        return message

    return limited


def _too_large(limit: int) -> ApiError:
    return ApiError(413, f"the body is larger than {limit} bytes", code="request_too_large")
