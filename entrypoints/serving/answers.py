"""``/v1/chat/completions`` and ``/v1/completions``: decide, have it answered, say who answered."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from time import perf_counter
from typing import Any, TypeVar

import attrs
import orjson
import structlog
from attrs import define, field
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from application.ports.serving import Call
from application.serving.choose_answerer import Choice, ChooseRequest
from application.serving.wishes import parse_wishes
from domain.errors import MoeRouterError
from entrypoints.serving.bodies import read_chat, read_object, read_prompt, session_names
from entrypoints.serving.errors import RETRY_AFTER, ApiError, as_api_error, bad_request
from entrypoints.serving.metrics import BASE_LABEL
from entrypoints.serving.routing_object import NEAREST, routing_headers, routing_object, wants_debug
from entrypoints.serving.serving import Serving
from entrypoints.serving.settings import AUTO
from entrypoints.serving.tracing import TurnSpan

_Result = TypeVar("_Result")
_DONE = b"data: [DONE]\n\n"


async def chat_completions(request: Request) -> Response:
    """Answer a conversation."""
    return await _answer(request, "chat/completions")


async def completions(request: Request) -> Response:
    """Continue a text."""
    return await _answer(request, "completions")


def model_not_found(serving: Serving, model: Any) -> ApiError:
    """Return the error for a model that is not offered; it lists those that are."""
    offered = ", ".join((AUTO, *serving.models()))
    return ApiError(
        404,
        f"the model {str(model)[:100]!r} does not exist; there are {offered}",
        code="model_not_found",
        param="model",
    )


async def choose(serving: Serving, request: Request, body: dict[str, Any], endpoint: str) -> Choice:
    """Decide who answers a request's body, and count it.

    Raises ApiError; for an abstention without a fallback one that holds the object ``routing``.
    """
    current, model = serving.now, body.get("model", AUTO)
    models, by_name = serving.models(), model != AUTO
    if not isinstance(model, str) or (by_name and model not in models):
        raise model_not_found(serving, model)
    if endpoint == "chat/completions":
        chat = read_chat(body.get("messages"))
    else:
        chat = read_prompt(body.get("prompt"), named=by_name) or ()
    wishes = parse_wishes(body.get("routing"))
    named = models[model] if by_name else None
    nearest = NEAREST if wants_debug(request.headers) else 0
    choice = await current.choose(
        ChooseRequest(chat, wishes, session_names(request, body), named, by_name, nearest=nearest)
    )
    choice = attrs.evolve(choice, weights=serving.weights.get(choice.adapter or ""))
    serving.account(choice)
    request.state.notes.update(adapter=choice.adapter, reason=str(choice.reason))
    return choice


def no_adapter(choice: Choice) -> ApiError:
    """Return the error for a turn that nobody may answer."""
    error = ApiError(
        409,
        choice.error or f"no adapter was chosen ({choice.reason}), and no fallback may answer",
        code="no_adapter",
        extra={"routing": routing_object(choice)},
    )
    error.headers.update(routing_headers(choice))
    return error


async def _answer(request: Request, endpoint: str) -> Response:
    serving: Serving = request.app.state.serving
    body = await read_object(request)
    stream = body.get("stream") or False
    if not isinstance(stream, bool):
        raise bad_request("stream is neither true nor false", "stream")
    if serving.waiting >= serving.settings.max_waiting:
        serving.metrics.rejections.inc()
        raise ApiError(429, "too many requests wait already", code="queue_full", retry_after=RETRY_AFTER)
    turn = _Turn(serving, request, endpoint)
    turn.enter()
    try:
        return await turn.answer(body, stream=stream)
    except BaseException:
        turn.leave(499)
        raise


@define(eq=False)
class _Turn:
    """One request that is being answered; it counts as waiting until it is left."""

    serving: Serving
    request: Request
    endpoint: str
    choice: Choice | None = None
    usage: dict[str, int] = field(factory=dict)
    start: float = field(factory=perf_counter)
    counted: bool = False
    span: TurnSpan | None = None

    @property
    def name(self) -> str:
        return str(self.request.state.request_id)

    @property
    def who(self) -> str:
        return (self.choice and self.choice.adapter) or BASE_LABEL

    def enter(self) -> None:
        self.serving.waiting += 1
        self.serving.metrics.in_flight.inc()
        self.counted = True

    def leave(self, status: int) -> None:
        """Count the request as done, once."""
        if not self.counted:
            return
        self.counted = False
        self.serving.waiting -= 1
        self.serving.metrics.in_flight.dec()
        for kind in ("prompt", "completion"):
            self.serving.metrics.tokens.labels(self.who, kind).inc(self.usage.get(f"{kind}_tokens", 0))
        if self.choice is not None:
            self.serving.keep(
                self.choice, name=self.name, endpoint=self.endpoint, status=status, tokens=dict(self.usage)
            )
        if self.span is not None:
            self.span.end(model=self.model, name=self.answer_id, status=status, usage=self.usage)

    @property
    def model(self) -> str | None:
        """The name of who answers, once that is known."""
        if self.choice is None or self.choice.nobody:
            return None
        return self.choice.adapter or self.serving.answerer.base_name

    @property
    def answer_id(self) -> str:
        """The answer's id, under which feedback finds it."""
        return f"{'chatcmpl' if self.endpoint == 'chat/completions' else 'cmpl'}-{self.name}"

    async def answer(self, body: dict[str, Any], *, stream: bool) -> Response:
        if self.serving.tracing is not None:
            asked = str(body.get("model", AUTO))[:100]
            self.span = self.serving.tracing.begin(self.endpoint, asked, self.request.headers)
        try:
            async with asyncio.timeout(self.serving.settings.timeout):
                return await until_gone(self.request, lambda: self._begin(body, stream))
        except (ApiError, MoeRouterError, TimeoutError) as error:
            told = as_api_error(error)
            self.leave(told.status)
            if told.code == "queue_full":
                self.serving.metrics.rejections.inc()
            if self.choice is not None:
                told.headers.update(self._headers())
            raise told from error

    async def _begin(self, body: dict[str, Any], stream: bool) -> Response:
        self.choice = choice = await choose(self.serving, self.request, body, self.endpoint)
        if self.span is not None:
            self.span.routed(choice)
        if choice.nobody:
            raise no_adapter(choice)
        answerer = self.serving.answerer
        rest = {key: value for key, value in body.items() if key not in ("model", "routing")}
        trace = {} if self.span is None else self.span.headers
        call = Call(self.endpoint, rest, choice.adapter, self.model or "", self.name, trace)
        if not stream:
            answer = await answerer.complete(call)
            self._count(answer)
            self.leave(200)
            return Response(orjson.dumps(self._told(answer)), 200, self._headers(), "application/json")
        chunks = answerer.stream(call)
        first = await anext(chunks, None)  # until it comes, a failure still has a status of its own
        headers = {**self._headers(), "cache-control": "no-cache", "x-accel-buffering": "no"}
        return StreamingResponse(self._events(first, chunks), 200, headers, "text/event-stream")

    async def _events(
        self, first: dict[str, Any] | None, chunks: AsyncIterator[dict[str, Any]]
    ) -> AsyncIterator[bytes]:
        status = 499
        self.serving.metrics.first_token.labels(self.who).observe(perf_counter() - self.start)
        try:
            async with asyncio.timeout(self.serving.settings.timeout):
                if first is not None:
                    yield _event(self._told(first))
                async for chunk in chunks:
                    self._count(chunk)
                    yield _event(
                        self._told(chunk) if "usage" in chunk and not chunk.get("choices") else self._named(chunk)
                    )
            status = 200
            yield _DONE
        except (MoeRouterError, TimeoutError) as error:
            told = as_api_error(error)
            status = told.status
            yield _event(told.body)
        except Exception as error:
            structlog.get_logger("moe-router.serve").exception("stream-failed", request_id=self.name)
            status = 500
            yield _event(as_api_error(error).body)
        finally:
            self.leave(status)
            close = getattr(chunks, "aclose", None)
            if close is not None:
                await close()

    def _headers(self) -> dict[str, str]:
        assert self.choice is not None
        return routing_headers(self.choice, debug=wants_debug(self.request.headers))

    def _count(self, answer: dict[str, Any]) -> None:
        usage = answer.get("usage")
        if isinstance(usage, dict):
            self.usage = {key: value for key, value in usage.items() if isinstance(value, int)}

    def _named(self, answer: dict[str, Any]) -> dict[str, Any]:
        return {**answer, "id": self.answer_id}

    def _told(self, answer: dict[str, Any]) -> dict[str, Any]:
        assert self.choice is not None
        return {
            **self._named(answer),
            "routing": routing_object(self.choice, debug=wants_debug(self.request.headers)),
        }


def _event(value: dict[str, Any]) -> bytes:
    return b"data: " + orjson.dumps(value) + b"\n\n"


async def until_gone(request: Request, work: Callable[[], Awaitable[_Result]]) -> _Result:
    """Return the work's result; when the client goes away first, the work is cancelled."""

    async def gone() -> None:
        while (await request.receive())["type"] != "http.disconnect":
            pass

    task = asyncio.ensure_future(work())
    watch = asyncio.ensure_future(gone())
    try:
        await asyncio.wait((task, watch), return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            raise ApiError(499, "the client went away", code="client_closed_request")
        return task.result()
    finally:
        for each in (task, watch):
            each.cancel()
        await asyncio.gather(task, watch, return_exceptions=True)
