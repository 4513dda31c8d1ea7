"""The ASGI application."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from time import monotonic
from typing import Final

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from domain.errors import MoeRouterError
from entrypoints.serving import answers, decide, listing
from entrypoints.serving.errors import ApiError, as_api_error
from entrypoints.serving.guard import Guard
from entrypoints.serving.serving import PROOF_SECONDS, Serving

WATCH_SECONDS: Final = 1.0
RETRY_SECONDS: Final = 2.0

ROUTES: Final = (
    Route("/", listing.page, methods=["GET"]),
    Route("/health", listing.health, methods=["GET"]),
    Route("/ready", listing.ready, methods=["GET"]),
    Route("/metrics", listing.metrics, methods=["GET"]),
    Route("/v1/models", listing.models, methods=["GET"]),
    Route("/v1/models/{name:path}", listing.model, methods=["GET"]),
    Route("/v1/chat/completions", answers.chat_completions, methods=["POST"]),
    Route("/v1/completions", answers.completions, methods=["POST"]),
    Route("/v1/route", decide.route, methods=["POST"]),
    Route("/v1/decisions", decide.decisions, methods=["POST"]),
    Route("/v1/decisions", decide.recent, methods=["GET"]),
    Route("/v1/feedback", listing.feedback, methods=["POST"]),
)


def serving_app(serving: Serving, *, watch: bool = True) -> Starlette:
    """Return the application.

    Args:
        serving: what is served.
        watch: whether to load the router, to load it anew when its file changes or SIGHUP comes, and to go on trying
            to prove adapters that are not offered.
    """

    @asynccontextmanager
    async def lifespan(_app: Starlette) -> AsyncIterator[None]:
        tasks = [asyncio.create_task(_watch(serving))] if watch else []
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await serving.answerer.aclose()
            if serving.tracing is not None:
                await asyncio.to_thread(serving.tracing.close)
            if serving.log is not None:
                await asyncio.to_thread(serving.log.close)

    app = Starlette(
        routes=ROUTES,
        lifespan=lifespan,
        middleware=[Middleware(Guard, settings=serving.settings, metrics=serving.metrics)],
        exception_handlers=dict.fromkeys((ApiError, MoeRouterError, HTTPException, TimeoutError), _refused),
    )
    app.router.redirect_slashes = False
    app.state.serving = serving
    return app


async def _refused(_request: Request, error: Exception) -> Response:
    return as_api_error(error).response()


async def _watch(serving: Serving) -> None:
    """Load the router, again on SIGHUP and when its file changes; now and then prove what is not offered."""
    asked = asyncio.Event()
    with contextlib.suppress(ValueError, RuntimeError, NotImplementedError):  # not the main thread
        asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, asked.set)
    seen, last_proof = _signature(serving), monotonic()
    while serving.current is None and not await serving.reload():
        await asyncio.sleep(RETRY_SECONDS)
    while True:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(asked.wait(), WATCH_SECONDS)
        found = _signature(serving)
        if asked.is_set() or (found != seen and found):
            asked.clear()
            seen = found
            await serving.reload()
        elif monotonic() - last_proof > (PROOF_SECONDS if serving.problem is None else RETRY_SECONDS):
            last_proof = monotonic()
            await serving.prove_again()


def _signature(serving: Serving) -> tuple[tuple[str, int, int, int], ...]:
    """Return what changes when the router's file does; empty while there is none."""
    path = serving.watched
    if path is None:
        return ()
    found = []
    with contextlib.suppress(OSError):
        for each in sorted(path.iterdir()) if path.is_dir() else (path,):
            status = each.stat()
            found.append((each.name, status.st_ino, status.st_size, status.st_mtime_ns))
    return tuple(found)
