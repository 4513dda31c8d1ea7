"""The endpoint on Modal: ``modal deploy -m entrypoints.modal_serve``.

The same application as ``moe-router serve`` on a GPU, with the router, the LoRA adapters and the base model that lie
on the volumes. Set by the environment of the deployment: see :mod:`entrypoints.on_modal.serving`, and
``MOE_ROUTER_MODAL_GPU`` and ``MOE_ROUTER_MODAL_WARM`` as for the other app. Nobody reaches it without a key: a secret
with ``MOE_ROUTER_API_KEY``, else Modal's own proxy tokens.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, Final

import modal

from adapters.modal_cloud.call_options import gpu_choice
from adapters.modal_cloud.remote_functions import SERVE_APP
from entrypoints.on_modal.first_contact import require_modal_to_answer, stated
from entrypoints.on_modal.image import app_tags, training_image
from entrypoints.on_modal.mounts import Mounts
from entrypoints.on_modal.options import checked_gpu
from entrypoints.on_modal.places import shared_tags
from entrypoints.on_modal.serving import KEY, EndpointSettings, Keeper, carried, open_endpoint
from entrypoints.settings import Settings

if TYPE_CHECKING:
    from threading import Event

    from starlette.types import ASGIApp

    from entrypoints.on_modal.sharing import SharedEngine

require_modal_to_answer()

_SETTINGS: Final = stated(lambda: Settings.read(os.environ))
_GPU: Final = stated(lambda: checked_gpu(_SETTINGS.modal_gpu))
ENDPOINT: Final = stated(lambda: EndpointSettings.read(os.environ))
_MOUNTS: Final = Mounts.of(_SETTINGS.data_volume)
_SECRETS: Final = [modal.Secret.from_dict(carried(os.environ))]
if ENDPOINT.key_secret is not None:
    _SECRETS.append(modal.Secret.from_name(ENDPOINT.key_secret, required_keys=[KEY]))

app = modal.App(
    SERVE_APP,
    tags=app_tags(_GPU, str(ENDPOINT)) | shared_tags(ENDPOINT.router, ENDPOINT.base_model, ENDPOINT.lora_dir),
)

_CONTAINER: Final[dict[str, Any]] = {"image": training_image("serve"), "volumes": _MOUNTS.at, "secrets": _SECRETS}
_WITH_GPU: Final[dict[str, Any]] = {"gpu": gpu_choice(_GPU), "cpu": 4.0, "memory": 32 * 1024}


# One container: conversations are remembered in memory. Requests share its batch; what is too much gets a 429.
@app.cls(**_CONTAINER, **_WITH_GPU, timeout=2 * 3600, scaledown_window=_SETTINGS.modal_warm, max_containers=1)
@modal.concurrent(max_inputs=300)
class Endpoint:
    """The endpoint, loaded when its container starts; calls of the other app's methods share what it has loaded."""

    application: ASGIApp
    shared: SharedEngine
    ended: Event

    @modal.enter()
    def load(self) -> None:
        """Load router, base model and LoRA adapters."""
        from adapters.modal_cloud.modal_messages import Updates
        from adapters.modal_cloud.modal_volumes import Volumes
        from entrypoints.logs import set_up_logs
        from entrypoints.on_modal.sharing import SharedEngine
        from entrypoints.on_modal.worker import ContainerApplication

        set_up_logs()
        volumes = Volumes(_MOUNTS.written, _MOUNTS.read)
        app = ContainerApplication(updates=Updates(None), volumes=volumes)
        self.application, engine = open_endpoint(app, ENDPOINT, os.environ.get(KEY))
        app.warm.pinned = True
        self.shared = SharedEngine(engine, volumes, app.warm)
        self.ended = Keeper(self._look).start()

    @modal.exit()
    def leave(self) -> None:
        """Keep the rest of the decision log."""
        self.ended.set()
        self._look()

    @modal.asgi_app(requires_proxy_auth=ENDPOINT.key_secret is None)
    def web(self) -> Any:
        """Return the application."""
        return self.application

    # Not plain functions: with several inputs at a time, cancelling one of those ends the whole container.
    @modal.method()
    async def infer(self, request: dict[str, Any], updates: modal.Queue | None = None) -> dict[str, Any]:
        """Route and answer prompts; see :meth:`entrypoints.on_modal.worker.Worker.infer`."""
        return await self.shared.call("infer", request, updates)

    @modal.method()
    async def evaluate(self, request: dict[str, Any], updates: modal.Queue | None = None) -> dict[str, Any]:
        """Score a router; see :meth:`entrypoints.on_modal.worker.Worker.evaluate`."""
        return await self.shared.call("evaluate", request, updates)

    def _look(self) -> None:
        """Bring a new router in; and the log, which stays open, out on a volume of its own."""
        _MOUNTS.at["/output"].reload()
        if ENDPOINT.decision_log is not None:
            _MOUNTS.at["/cache"].commit()
