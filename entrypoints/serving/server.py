"""uvicorn with deadlines: a client that sends its request a byte at a time is cut off, and stopping ends in time."""

from __future__ import annotations

import asyncio
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from ipaddress import ip_address
from typing import Any, Final

import h11
import orjson
import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.h11_impl import H11Protocol

from domain.errors import StorageError, UsageError
from entrypoints.serving.errors import error_object
from entrypoints.serving.guard import MAX_HEADER_BYTES

READ_SECONDS: Final = 20.0
"""A request must be there whole this long after its first byte (after connecting, for the first one)."""

STOP_SECONDS: Final = 10
"""Answers that are going on may take this long when the server stops."""


class DeadlineProtocol(H11Protocol):
    """HTTP/1.1 with a deadline for each request, and refusals in OpenAI's form."""

    read_seconds: float = READ_SECONDS
    _deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Start the clock: a client that connects means to ask."""
        super().connection_made(transport)
        self._start_clock()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop the clock."""
        self._stop_clock()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Take bytes; the clock runs on until a whole request is there."""
        if self._deadline is None and self.conn.their_state is h11.IDLE:
            self._start_clock()
        super().data_received(data)
        if self.conn.their_state not in (h11.IDLE, h11.SEND_BODY):
            self._stop_clock()

    def send_400_response(self, msg: str) -> None:
        """Refuse what is not HTTP, or has headers that are too large."""
        error = sys.exc_info()[1]
        status = getattr(error, "error_status_hint", 400)
        codes = {431: "headers_too_large", 408: "request_timeout"}
        self._refuse(status, msg, codes.get(status, "invalid_request_error"))

    def _start_clock(self) -> None:
        self._deadline = asyncio.get_running_loop().call_later(self.read_seconds, self._too_slow)

    def _stop_clock(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _too_slow(self) -> None:
        self._deadline = None
        if not self.transport.is_closing():
            self._refuse(408, "the request did not arrive in time", "request_timeout")

    def _refuse(self, status: int, message: str, code: str) -> None:
        """Answer, if no answer has begun, and hang up."""
        if self.conn.our_state in (h11.IDLE, h11.SEND_RESPONSE):
            body = orjson.dumps({"error": error_object(status, message, code)})
            headers = [
                ("content-type", "application/json"),
                ("content-length", str(len(body))),
                ("connection", "close"),
            ]
            for event in (h11.Response(status_code=status, headers=headers), h11.Data(data=body), h11.EndOfMessage()):
                self.transport.write(self.conn.send(event) or b"")
        if self.cycle is not None:
            self.cycle.disconnected = True
            self.cycle.message_event.set()
        self.transport.close()


class Server(uvicorn.Server):
    """Stops on SIGTERM and SIGINT after finishing what is going on, and lets its caller go on from there."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Take the signals over, and do not raise them again: a server that was asked to stop has done its work."""
        with super().capture_signals():
            yield
            self._captured_signals.clear()


def is_local(host: str) -> bool:
    """Tell whether only this machine can reach a server that listens there."""
    if host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


def listen(host: str, port: int) -> socket.socket:
    """Return a socket that listens; raises UsageError or StorageError when that cannot be."""
    try:
        place = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
    except OSError as error:
        raise UsageError(
            f"cannot listen on {host}: {error.strerror}", hint="--host names an address of this machine"
        ) from error
    family, kind, protocol, _, address = place
    # With the protocol named, asyncio sets TCP_NODELAY on connections: without, a body waits 40 ms for the client's
    # acknowledgement of the headers before it.
    found = socket.socket(family, kind, protocol)
    found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        found.bind(address)
        found.listen(2048)
    except OSError as error:
        found.close()
        raise StorageError(
            f"cannot listen on {host} port {port}: {error.strerror}", hint="--port names another, 0 a free one"
        ) from error
    found.setblocking(False)
    return found


def server_for(app: ASGIApp, *, read_seconds: float = READ_SECONDS, stop_seconds: int = STOP_SECONDS) -> Server:
    """Return a server for the application; run it with ``run(sockets=[…])``."""
    protocol: Any = type("Protocol", (DeadlineProtocol,), {"read_seconds": read_seconds})
    config = uvicorn.Config(
        app,
        http=protocol,
        ws="none",
        loop="asyncio",
        lifespan="on",
        log_config=None,
        log_level="warning",
        access_log=False,
        server_header=False,
        timeout_keep_alive=75,
        timeout_graceful_shutdown=stop_seconds,
        h11_max_incomplete_event_size=MAX_HEADER_BYTES,
    )
    return Server(config)
