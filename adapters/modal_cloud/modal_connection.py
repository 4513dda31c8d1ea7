"""Calls to Modal with a deadline, bounded retries, and errors that a person can act on.

Left alone, the modal client takes about a minute to say that a server cannot be reached, and almost three when
one accepts the connection and stays silent (measured with modal 1.6.4). Here the first contact is a plain TCP
connection, and every call has a deadline of its own.
"""

from __future__ import annotations

import asyncio
import os
import socket
import threading
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Mapping
from importlib.util import find_spec
from typing import Any, Final, TypeVar
from urllib.parse import SplitResult, urlsplit
from urllib.request import proxy_bypass

import aiohttp
import grpclib.exceptions
import modal
import modal.exception
import stamina
import structlog
from attrs import field, frozen
from modal.config import config
from stamina.instrumentation import RetryDetails, set_on_retry_hooks

from domain.errors import MoeRouterError, RemoteError

T = TypeVar("T")

_PORTS: Final = {"https": 443, "socks4": 1080, "socks4a": 1080, "socks5": 1080, "socks5h": 1080}
_SECRETS = ("MODAL_TOKEN_ID", "MODAL_TOKEN_SECRET", "HF_TOKEN", "HUGGING_FACE_HUB_TOKEN")
CONNECTION_ERRORS = (
    ConnectionError,
    grpclib.exceptions.StreamTerminatedError,
    modal.exception.ConnectionError,
    modal.exception.ServiceError,
    modal.exception.InternalError,
    aiohttp.ClientError,
)
_BLOCK: Final = 8 << 20  # bytes of a block that modal downloads at a time
_STAGGER: Final = 3.0  # seconds for which modal's client waits for a server before it tries the next one, too
_AGAIN = "run it again to go on where it stopped"


@frozen
class ModalConnection:
    """A way to call Modal.

    Attributes:
        environment: environment variables: proxies, and secrets that no message may show.
        reach: seconds within which the server must accept a TCP connection.
        greet: seconds within which it must answer the first call.
        deadline: seconds for one call, apart from the time that its data takes.
        rate: slowest transfer that is still waited for, bytes per second.
        attempts: how often a call that lost its connection is tried.
        pause: seconds before the second attempt, at most doubled by chance; later pauses grow.
    """

    environment: Mapping[str, str] = field(factory=lambda: dict(os.environ))
    reach: float = 2.0
    greet: float = 2.5
    deadline: float = 20.0
    rate: float = 250_000.0
    attempts: int = 3
    pause: float = 0.5

    def open(self) -> modal.Client:
        """Return a client whose server has just answered, with these credentials; raises RemoteError within 10 s."""
        spent = _STAGGER * self._require_reachable()

        async def greet() -> modal.Client:
            client = await modal.Client.from_env.aio()
            await client.hello.aio()  # type: ignore[no-untyped-call]  # modal leaves its result untyped
            return client

        return self._run("connecting", greet, min(self.greet + spent, self.deadline))

    def call(
        self, doing: str, start: Callable[[], Coroutine[Any, Any, T]], size: int = 0, *, once: bool = False
    ) -> T:
        """Run one call to its end.

        Args:
            doing: what is being done, for messages ("listing moe-lora-data").
            start: makes the coroutine; called once per attempt.
            size: bytes that it moves.
            once: never tried again: the call has an effect each time that it arrives. (Modal's client repeats a
                request that was lost, in a way that its server can tell; that stays safe.)

        Raises RemoteError; errors of the caller's own (domain errors) pass through.
        """
        for attempt in self._attempts(1 if once else self.attempts):
            with attempt:
                return self._run(doing, start, self.deadline + size / self.rate)
        raise AssertionError("unreachable")

    def stream(self, doing: str, start: Callable[[], AsyncIterator[bytes]]) -> Iterator[bytes]:
        """Yield blocks of a download; a lost connection is taken up again where it broke off."""
        done = 0
        for attempt in self._attempts(self.attempts):
            with attempt:
                skip = done
                with asyncio.Runner() as runner:
                    blocks = start()
                    while (block := self._next(runner, doing, blocks)) is not None:
                        fresh, skip = block[skip:], max(0, skip - len(block))
                        done += len(fresh)
                        if fresh:
                            yield fresh

    def translated(self, error: Exception, doing: str) -> MoeRouterError:
        """Return the error of ours for one of a call that was made outside :meth:`call`."""
        return translated(error, doing, self.environment)

    def _attempts(self, attempts: int) -> Any:
        return stamina.retry_context(
            on=is_lost,
            attempts=attempts,
            wait_initial=self.pause,
            wait_jitter=self.pause,
            wait_max=5.0,
            timeout=None,
        )

    def _next(self, runner: asyncio.Runner, doing: str, blocks: AsyncIterator[bytes]) -> bytes | None:
        async def step() -> bytes | None:
            return await asyncio.wait_for(anext(blocks, None), self.deadline + _BLOCK / self.rate)

        try:
            return runner.run(step())
        except MoeRouterError:
            raise
        except Exception as error:
            raise translated(error, doing, self.environment) from error

    def _run(self, doing: str, start: Callable[[], Coroutine[Any, Any, T]], seconds: float) -> T:
        async def bounded() -> T:
            return await asyncio.wait_for(start(), seconds)

        try:
            return asyncio.run(bounded())
        except MoeRouterError:
            raise
        except Exception as error:
            raise translated(error, doing, self.environment, seconds) from error

    def _require_reachable(self) -> int:
        """Return the place of the first of the client's servers that somebody listens at; raises RemoteError.

        Where nobody does and there are no credentials either, it says that: they come first.
        """
        problems = []
        for place, url in enumerate(config["server_url"].split(",")):
            try:
                self._require_listener(urlsplit(url.strip()))
            except RemoteError as error:
                problems.append(error)
            else:
                return place
        if not (config.get("token_id") and config.get("token_secret")):
            raise _credentials_error("missing") from problems[0]
        raise problems[0]

    def _require_listener(self, address: SplitResult) -> None:
        """Raise RemoteError when nobody listens where the client connects to: Modal, or the proxy before it."""
        what = "Modal"
        if address.scheme not in ("http", "https"):
            return
        hint = "check the network, and https://status.modal.com"
        if proxy := self._proxy(address):
            address, what, hint = urlsplit(proxy), "the proxy", "check HTTPS_PROXY, or unset it"
            if find_spec("python_socks") is None:
                raise RemoteError(
                    "a proxy is set, and the package that speaks to it is missing",
                    where=address.hostname,
                    hint="pip install 'modal[api-proxy-support]', or unset HTTPS_PROXY",
                )
        port = address.port or _PORTS.get(address.scheme, 80)
        found: list[Exception | None] = []
        # In a thread of its own: name resolution knows no time limit.
        thread = threading.Thread(target=_probe, args=(address.hostname, port, self.reach, found), daemon=True)
        thread.start()
        thread.join(self.reach + 0.2)
        problem = found[0] if found else TimeoutError()
        if problem is not None:
            reason = "no answer" if isinstance(problem, TimeoutError) else getattr(problem, "strerror", None)
            where = f"{address.hostname}:{port}"
            raise RemoteError(f"{what} cannot be reached: {reason or problem}", where=where, hint=hint) from problem

    def _proxy(self, address: SplitResult) -> str | None:
        """Return the proxy that the client uses for an address: as the environment says."""
        if config.get("disable_api_proxy") or proxy_bypass(address.hostname or ""):
            return None
        names = (f"{address.scheme}_proxy", "all_proxy")
        found = (self.environment.get(each) for name in names for each in (name, name.upper()))
        return next(filter(None, found), None)


def _probe(host: str, port: int, seconds: float, found: list[Exception | None]) -> None:
    try:
        socket.create_connection((host, port), timeout=seconds).close()
        found.append(None)
    except OSError as error:
        found.append(error)


def _log_retry(details: RetryDetails) -> None:
    structlog.get_logger().info("modal.call_retried", after=str(details.caused_by), seconds=details.wait_for)


set_on_retry_hooks([_log_retry])  # instead of stamina's own warnings; nothing else here uses stamina


def is_lost(error: Exception) -> bool:
    """Whether trying again can help: the connection was lost or nothing came in time."""
    return isinstance(error, RemoteError) and isinstance(error.__cause__, (*CONNECTION_ERRORS, TimeoutError))


def translated(
    error: Exception, doing: str, environment: Mapping[str, str], seconds: float | None = None
) -> MoeRouterError:
    """Return the error of ours that says what went wrong while `doing`, without any secret in it."""
    text = redacted(str(error) or type(error).__name__, environment)
    if isinstance(error, modal.exception.AuthError):
        return _credentials_error(text)
    if isinstance(error, FileNotFoundError):
        return RemoteError(f"{doing}: no such file", hint="`moe-router datasets` lists what is there")
    if isinstance(error, TimeoutError):
        limit = "in time" if seconds is None else f"within {seconds:.3g} s"
        return RemoteError(f"{doing}: Modal did not answer {limit}", hint=f"check the network, then {_AGAIN}")
    if isinstance(error, modal.exception.NotFoundError):
        return RemoteError(f"{doing}: {text}", hint=_what_is_there(text))
    if isinstance(error, modal.exception.ResourceExhaustedError):
        return RemoteError(f"{doing}: Modal's limits are reached: {text}", hint=f"free space or wait, then {_AGAIN}")
    if isinstance(error, modal.exception.PermissionDeniedError):
        return RemoteError(f"{doing}: Modal refused: {text}", hint="check the workspace of your token")
    if isinstance(error, ImportError):  # a proxy is set, and the package that speaks to it is missing
        return RemoteError(f"{doing}: {text}", hint="or unset HTTPS_PROXY")
    if isinstance(error, CONNECTION_ERRORS):
        return RemoteError(f"{doing}: the connection to Modal failed: {text}", hint=_AGAIN)
    if isinstance(error, (modal.exception.ExecutionError, modal.exception.TimeoutError)):  # a blob store that fails
        return RemoteError(f"{doing}: {text}", hint=_AGAIN)
    if isinstance(error, (modal.exception.Error, OSError)):
        return RemoteError(f"{doing}: {text}")
    raise error


def _what_is_there(text: str) -> str:
    """Return how to see what there is instead of what was not found."""
    kind = next((kind for kind in ("secret", "volume") if kind in text.lower()), "app")
    make = "; `modal secret create NAME HF_TOKEN=…` makes one" if kind == "secret" else ""
    return f"`modal {kind} list` shows what is there{make}"


def _credentials_error(text: str) -> RemoteError:
    hint = "run `modal setup`, or set MODAL_TOKEN_ID and MODAL_TOKEN_SECRET"
    if "missing" in text.lower():
        return RemoteError("there are no Modal credentials", hint=hint)
    return RemoteError("Modal refused the credentials: the token is wrong or has expired", hint=hint)


def redacted(text: str, environment: Mapping[str, str]) -> str:
    """Return `text` with every known secret replaced, on one line and of bounded length."""
    known = [environment.get(name) for name in _SECRETS] + [config.get(name) for name in ("token_id", "token_secret")]
    for secret in known:
        if secret:
            text = text.replace(secret, "***")
    return " ".join(text.split())[:500]
