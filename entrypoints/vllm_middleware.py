"""The router inside vLLM: ``vllm serve … --middleware entrypoints.vllm_middleware.RouterMiddleware``.

No second server and no extra hop: requests for the model "auto" are decided here and get their adapter's name before
vLLM sees them; answers say who answered. Set by the environment:

- ``MOE_ROUTER_FILE``: the router; needed.
- ``MOE_ROUTER_FALLBACK``: base (default), error, or an adapter.
- ``MOE_ROUTER_BASE_MODEL``: hub id or folder of the base model, when it is not where the router was trained.
- ``MOE_ROUTER_UPSTREAM_BASE``: the base model's name in vLLM, when it cannot be told from its list.
- ``MOE_ROUTER_DECISION_LOG``: file for decisions and feedback.
- ``MOE_ROUTER_API_KEY``: the key; else vLLM's own (``VLLM_API_KEY`` or ``--api-key``).

Middleware runs outside of vLLM's authentication, so the key is checked here, too.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import orjson
from attrs import field, frozen
from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from domain.answer_policy import Fallback
from domain.errors import MoeRouterError, UsageError
from entrypoints.backend import Upstream
from entrypoints.bootstrap import Application
from entrypoints.serving.answers import choose, no_adapter
from entrypoints.serving.app import serving_app
from entrypoints.serving.errors import ApiError, as_api_error
from entrypoints.serving.guard import has_key, request_id
from entrypoints.serving.routing_object import wants_debug
from entrypoints.serving.serving import Serving
from entrypoints.serving.settings import AUTO, ServeSettings
from entrypoints.serving.telling import Telling, WithAuto, json_object

ANSWERS: Final = {"/v1/chat/completions": "chat/completions", "/v1/completions": "completions"}
OWN: Final = frozenset({"/v1/route", "/v1/decisions", "/v1/feedback"})


@frozen
class MiddlewareSettings:
    """What the environment and vLLM's command line say.

    Attributes:
        router: the router's file.
        fallback: who answers where there is no choice.
        base_model: the router's base model; None takes the one that it was trained on.
        upstream_base: the base model's name in vLLM; None finds it.
        decision_log: file for decisions; None keeps none.
        key: the key that clients send; None asks for nothing.
    """

    router: Path
    fallback: Fallback
    base_model: str | None
    upstream_base: str | None
    decision_log: Path | None
    key: str | None = field(repr=False)

    @classmethod
    def read(cls, environment: Mapping[str, str], arguments: Sequence[str]) -> MiddlewareSettings:
        """Return the settings; raises UsageError when there is no router."""
        router = environment.get("MOE_ROUTER_FILE")
        if not router:
            raise UsageError("MOE_ROUTER_FILE is not set", hint="it names the router's file")
        log = environment.get("MOE_ROUTER_DECISION_LOG")
        return cls(
            Path(router),
            Fallback.parse(environment.get("MOE_ROUTER_FALLBACK") or "base"),
            environment.get("MOE_ROUTER_BASE_MODEL") or None,
            environment.get("MOE_ROUTER_UPSTREAM_BASE") or None,
            Path(log) if log else None,
            environment.get("MOE_ROUTER_API_KEY") or environment.get("VLLM_API_KEY") or _key_argument(arguments),
        )


class RouterMiddleware:
    """An ASGI middleware that has the router pick the adapter.

    Adapters are proved by asking vLLM itself, at the first request that needs one: each must answer unlike the base
    model and unlike the others.
    """

    def __init__(self, app: ASGIApp, environment: Mapping[str, str] | None = None) -> None:
        """Load the router; raises MoeRouterError, which keeps vLLM from starting, when that cannot be."""
        settings = MiddlewareSettings.read(os.environ if environment is None else environment, sys.argv)
        if settings.key is None and _asks_for_a_key(app):
            raise UsageError(
                "vLLM asks for a key that the router does not know", hint="set MOE_ROUTER_API_KEY to the same key"
            )
        parts = Application(dict(os.environ if environment is None else environment))
        self.app = app
        self._around: dict[str, Any] = {}
        self.serving: Serving = parts.serve_upstream(
            settings.router,
            Upstream("http://vllm", base=settings.upstream_base, key=settings.key),
            ServeSettings(api_key=settings.key, fallback=settings.fallback),
            base_model=settings.base_model,
            log=None if settings.decision_log is None else parts.decision_log(settings.decision_log),
            inside=self._ask_vllm,
        )
        self.own = serving_app(self.serving, watch=False)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, decided if it asks for that."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        self._around = {"app": scope["app"]} if "app" in scope else {}
        path = scope["path"].removeprefix(scope.get("root_path", ""))
        asked = (scope["method"], path)
        try:
            if path in OWN:
                if not has_key(Headers(scope=scope), self.serving.settings.api_key):
                    raise ApiError(401, "the API key is missing or wrong", code="invalid_api_key")
                await self._loaded()
                await self.own(scope, receive, send)
            elif scope["method"] == "POST" and path in ANSWERS:
                await self._answer(scope, receive, send, ANSWERS[path])
            elif asked == ("GET", "/v1/models"):
                await self.app(scope, receive, WithAuto(send))
            else:
                await self.app(scope, receive, send)
        except (ApiError, MoeRouterError) as error:
            await as_api_error(error).response()(scope, receive, send)

    async def _ask_vllm(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request of the router's own on; vLLM's handlers look for their engine in the application."""
        await self.app({**self._around, **scope}, receive, send)

    async def _loaded(self) -> None:
        if self.serving.current is None or self.serving.problem is not None:
            await self.serving.reload()

    async def _answer(self, scope: Scope, receive: Receive, send: Send, endpoint: str) -> None:
        headers, settings = Headers(scope=scope), self.serving.settings
        if not has_key(headers, settings.api_key):
            raise ApiError(401, "the API key is missing or wrong", code="invalid_api_key")
        content = await _read(receive, settings.max_body)
        body = json_object(content)
        if body is None or (body.get("model") != AUTO and "routing" not in body):
            await self.app(scope, _replay(content, receive), send)
            return
        await self._loaded()
        scope["state"] = {**scope.get("state", {}), "notes": {}, "request_id": request_id(headers)}
        choice = await choose(self.serving, Request(scope), body, endpoint)
        name = scope["state"]["request_id"]
        if choice.nobody:
            self.serving.keep(choice, name=name, endpoint=endpoint, status=409, tokens={})
            raise no_adapter(choice)
        told = Telling(send, choice, self.serving, wants_debug(headers))
        sent = {key: value for key, value in body.items() if key not in ("model", "routing")}
        content = orjson.dumps({**sent, "model": told.model})
        changed = [(key, value) for key, value in scope["headers"] if key != b"content-length"]
        changed.append((b"content-length", str(len(content)).encode()))
        try:
            await self.app({**scope, "headers": changed}, _replay(content, receive), told)
        finally:
            self.serving.keep(choice, name=name, endpoint=endpoint, status=told.status, tokens=told.usage)


async def _read(receive: Receive, limit: int) -> bytes:
    content: bytes = b""
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ApiError(400, "the body ended early", code="invalid_request_error")
        content += bytes(message.get("body", b""))
        if len(content) > limit:
            raise ApiError(413, f"the body is larger than {limit} bytes", code="request_too_large")
        if not message.get("more_body"):
            return content


def _replay(content: bytes, receive: Receive) -> Receive:
    """Return a ``receive`` that gives a body that was read already, then what really comes (a disconnect)."""
    given = False

    async def replayed() -> Message:
        nonlocal given
        if given:
            return await receive()
        given = True
        return {"type": "http.request", "body": content, "more_body": False}

    return replayed


def _key_argument(arguments: Sequence[str]) -> str | None:
    """Return the key in vLLM's ``--api-key``."""
    for position, argument in enumerate(arguments):
        name, equals, value = argument.partition("=")
        if name in ("--api-key", "--api_key"):
            following = arguments[position + 1 : position + 2]
            return value if equals else (following[0] if following else None)
    return None


def _asks_for_a_key(app: Any) -> bool:
    """Tell whether vLLM's own authentication lies further inside."""
    while app is not None:
        if type(app).__name__ == "AuthenticationMiddleware":
            return True
        app = getattr(app, "app", None)
    return False
