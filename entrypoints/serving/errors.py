"""Every failure as OpenAI's error object, with a code that programs can tell apart."""

from __future__ import annotations

from typing import Any, Final

import orjson
from starlette.exceptions import HTTPException
from starlette.responses import Response

from application.ports.serving import AnswerFailedError
from domain.errors import AnswerTimeoutError, BusyError, DataRejectedError, MoeRouterError, TooLongError, UsageError

RETRY_AFTER: Final = 1
"""Seconds after which a refused client may come again, where nothing better is known."""

_HTTP_CODES: Final = {
    404: "not_found",
    405: "method_not_allowed",
    408: "request_timeout",
    413: "request_too_large",
    431: "headers_too_large",
}


class ApiError(Exception):
    """A request that is refused.

    Attributes:
        status: HTTP status.
        message: what is wrong, for a person.
        code: what is wrong, for a program.
        param: the field of the request that it is about.
        retry_after: seconds after which another try may succeed.
        extra: further members of the response beside ``error``.
        headers: further headers.
    """

    def __init__(
        self,
        status: int,
        message: str,
        *,
        code: str,
        param: str | None = None,
        retry_after: int | None = None,
        extra: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.code = code
        self.param = param
        self.retry_after = retry_after
        self.extra = extra or {}
        self.headers: dict[str, str] = {}

    @property
    def body(self) -> dict[str, Any]:
        """The response's object."""
        return {"error": error_object(self.status, self.message, self.code, self.param), **self.extra}

    def response(self) -> Response:
        """Return the response."""
        headers = {**self.headers, **({"retry-after": str(self.retry_after)} if self.retry_after else {})}
        return Response(orjson.dumps(self.body), self.status, headers, "application/json")


def error_object(status: int, message: str, code: str, param: str | None = None) -> dict[str, Any]:
    """Return the value of ``error``."""
    kinds = {429: "rate_limit_error", 401: "authentication_error"}
    kind = kinds.get(status, "server_error" if status >= 500 else "invalid_request_error")
    return {"message": message, "type": kind, "param": param, "code": code}


def bad_request(message: str, param: str | None = None) -> ApiError:
    """Return the refusal of a request that makes no sense."""
    return ApiError(400, message, code="invalid_request_error", param=param)


def as_api_error(error: Exception) -> ApiError:
    """Return what a client is told of an error; of a bug nothing but that there is one."""
    if isinstance(error, ApiError):
        return error
    if isinstance(error, AnswerFailedError):
        return ApiError(error.status, error.what, code=error.code, param=error.param, retry_after=error.retry_after)
    if isinstance(error, BusyError):
        return ApiError(429, str(error), code="queue_full", retry_after=RETRY_AFTER)
    if isinstance(error, AnswerTimeoutError | TimeoutError):
        return ApiError(504, str(error) or "the answer took too long", code="timeout")
    if isinstance(error, TooLongError):
        return ApiError(400, str(error), code="context_length_exceeded", param="messages")
    if isinstance(error, UsageError | DataRejectedError):
        return bad_request(str(error), _param(error))
    if isinstance(error, HTTPException):
        code = _HTTP_CODES.get(error.status_code, "http_error")
        return ApiError(error.status_code, str(error.detail), code=code)
    if isinstance(error, MoeRouterError):
        return ApiError(500, error.what, code="internal_error")
    return ApiError(500, "something went wrong here; the server's log has more", code="internal_error")


def _param(error: MoeRouterError) -> str | None:
    return error.where if error.where and error.where.startswith("routing") else None
