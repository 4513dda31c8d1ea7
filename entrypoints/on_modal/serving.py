"""The endpoint in a container: what the environment of ``modal deploy`` says about it, and its application."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from pathlib import Path
from threading import Event, Thread
from typing import TYPE_CHECKING, Any, Final

import structlog
from attrs import frozen

from domain.answer_policy import Fallback
from domain.errors import MoeRouterError
from entrypoints.backend import Questions
from entrypoints.on_modal.places import THERE, read_path, written_path
from entrypoints.settings import Variable

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Receive, Scope, Send

    from adapters.lora.peft_streaming import PeftStreamingEngine
    from entrypoints.on_modal.worker import ContainerApplication
    from entrypoints.serving.serving import Serving

KEY: Final = "MOE_ROUTER_API_KEY"
KEY_SECRET: Final = "MOE_ROUTER_KEY_SECRET"
LORA_DIR: Final = "MOE_ROUTER_LORA_DIR"
FALLBACK: Final = "MOE_ROUTER_FALLBACK"
DECISION_LOG: Final = "MOE_ROUTER_DECISION_LOG"
CARRIED: Final = (Variable.ROUTER, Variable.BASE_MODEL, LORA_DIR, FALLBACK, DECISION_LOG, KEY_SECRET)
"""Variables that a container gets as they are where ``modal deploy`` runs."""

LOOK_SECONDS: Final = 20.0
"""How often the volume is asked for a new router, and gets the decision log."""


@frozen
class EndpointSettings:
    """What is served, with paths of the container.

    Attributes:
        router: router file.
        lora_dir: folder with one folder per LoRA adapter; None for the checkpoints volume.
        base_model: hub id or folder; None takes the one that the router was trained on.
        fallback: who answers where there is no choice.
        decision_log: file for decisions, on a volume; None keeps none.
        key_secret: name of the Modal secret with the key that clients send; None has Modal ask for proxy tokens.
    """

    router: Path = THERE.router
    lora_dir: Path | None = None
    base_model: str | None = None
    fallback: str = "base"
    decision_log: Path | None = None
    key_secret: str | None = None

    @classmethod
    def read(cls, environment: Mapping[str, str]) -> EndpointSettings:
        """Return the settings; raises UsageError for paths that a container does not see, or where logs are lost."""
        router, lora_dir, log = (environment.get(name) for name in (Variable.ROUTER, LORA_DIR, DECISION_LOG))
        there = read_path(Path(router), "the router", "/output") if router else THERE.router
        Fallback.parse(fallback := environment.get(FALLBACK) or "base")
        return cls(
            there.with_suffix(".safetensors") if there.suffix == ".pt" else there,
            read_path(Path(lora_dir), LORA_DIR, "/checkpoints") if lora_dir else None,
            environment.get(Variable.BASE_MODEL) or None,
            fallback,
            written_path(Path("/cache") / log, "the decision log") if log else None,
            environment.get(KEY_SECRET) or None,
        )


def carried(environment: Mapping[str, str]) -> dict[str, str | None]:
    """Return the variables that a container needs."""
    return {str(name): environment[name] for name in CARRIED if environment.get(name)}


def open_endpoint(
    app: ContainerApplication, settings: EndpointSettings, key: str | None
) -> tuple[ASGIApp, PeftStreamingEngine | None]:
    """Return the application, with everything loaded, and what answers; one that refuses all where that cannot be.

    A container that cannot start would be started again and again, so that what is wrong is said to those who ask.
    """
    from starlette.applications import Starlette
    from starlette.routing import Mount

    from entrypoints.serving.app import serving_app
    from entrypoints.serving.errors import ApiError

    try:
        serving = _serving(app, settings, key)
    except MoeRouterError as error:
        structlog.get_logger().error("endpoint.not_loaded", problem=str(error))
        return Starlette(routes=[Mount("/", ApiError(503, str(error), code="not_ready").response())]), None
    return AfterLoading(serving_app(serving), serving), serving.answerer.engine  # type: ignore[attr-defined]


def _serving(app: ContainerApplication, settings: EndpointSettings, key: str | None) -> Serving:
    from entrypoints.on_modal.worker import ContainerBackend
    from entrypoints.serving.settings import ServeSettings

    folders = ContainerBackend(app).lora_folders(Questions(settings.router, lora_dir=settings.lora_dir))
    return app.serve_embedded(
        settings.router,
        folders,
        ServeSettings(api_key=key, fallback=Fallback.parse(settings.fallback)),
        base_model=settings.base_model,
        log=None if settings.decision_log is None else app.decision_log(settings.decision_log),
    )


@frozen
class AfterLoading:
    """Holds requests back until the router is in place: the first one starts the container.

    Attributes:
        inner: the application.
        serving: its state.
    """

    inner: ASGIApp
    serving: Serving

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass everything on; requests when there is something to answer them with."""
        while scope["type"] == "http" and self.serving.current is None and self.serving.problem is None:
            await asyncio.sleep(0.02)
        await self.inner(scope, receive, send)


@frozen
class Keeper:
    """Brings new files in, and new lines of the log out, for as long as the endpoint runs.

    Attributes:
        look: what is done again and again; a volume that is busy is looked at the next time.
        seconds: pause between two times.
    """

    look: Callable[[], Any]
    seconds: float = LOOK_SECONDS

    def start(self) -> Event:
        """Begin; setting the event that is returned ends it."""
        ended = Event()
        Thread(target=self._run, args=(ended,), name="moe-router-volumes", daemon=True).start()
        return ended

    def _run(self, ended: Event) -> None:
        while not ended.wait(self.seconds):
            try:
                self.look()
            except Exception as error:  # the endpoint goes on with what it has
                structlog.get_logger().warning("endpoint.volumes_not_seen", problem=str(error))
