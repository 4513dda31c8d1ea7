"""A web page for whoever has the key in its address: the first visit turns the key into a cookie."""

from __future__ import annotations

import hmac
import threading
from collections.abc import Callable, Iterable
from http.cookies import CookieError, SimpleCookie
from secrets import token_urlsafe
from typing import Any, Final
from urllib.parse import parse_qs

from attrs import define, field

_COOKIE: Final = "moe-router"
Application = Callable[[dict[str, Any], Any], Iterable[bytes]]


@define(eq=False)
class KeyedAccess:
    """A WSGI application around another one, which only browsers reach that came with the key.

    A key works once: an address that stands in a log or a browser's history opens nothing later on. The next key is
    printed when one is used.

    Attributes:
        inner: the application that is guarded.
        address: its address, for the line that is printed.
        tell: takes that line.
    """

    inner: Application
    address: str
    tell: Callable[[str], None] = field(default=lambda line: print(line, flush=True))  # noqa: T201
    key: str = field(factory=token_urlsafe, init=False, repr=False)
    _session: str = field(factory=token_urlsafe, init=False, repr=False)
    _lock: threading.Lock = field(factory=threading.Lock, init=False, repr=False)

    def __attrs_post_init__(self) -> None:
        """Print where to go."""
        self._tell()

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        """Answer one request."""
        if self._known(environ.get("HTTP_COOKIE", "")):
            return self.inner(environ, start_response)
        given = parse_qs(environ.get("QUERY_STRING", "")).get("key", [""])[0]
        if not self._used(given):
            start_response("403 Forbidden", [("Content-Type", "text/plain; charset=utf-8")])
            return [b"The address with the key stands in this app's log; it works once.\n"]
        cookie = f"{_COOKIE}={self._session}; Path=/; HttpOnly; SameSite=Lax; Secure"
        start_response("303 See Other", [("Location", environ.get("PATH_INFO") or "/"), ("Set-Cookie", cookie)])
        return []

    def _known(self, header: str) -> bool:
        try:
            cookie = SimpleCookie(header).get(_COOKIE)
        except CookieError:
            return False
        return cookie is not None and hmac.compare_digest(cookie.value.encode(), self._session.encode())

    def _used(self, given: str) -> bool:
        with self._lock:
            if not given or not hmac.compare_digest(given.encode(), self.key.encode()):
                return False
            self.key = token_urlsafe()
        self._tell()
        return True

    def _tell(self) -> None:
        self.tell(f"TensorBoard: open {self.address}/?key={self.key} (works once)")
