"""The app on Modal: ``modal run -m entrypoints.modal_app``, ``modal deploy -m entrypoints.modal_app``.

Importing this module contacts nothing, except from Modal's own command line, which is about to do so anyway: there
an unreachable Modal is one line within seconds (:mod:`entrypoints.on_modal.first_contact`). What the functions do
is in :mod:`entrypoints.on_modal.worker`; here stands only where they run: image, GPU, time limits, which volume
lies where.

Every container may be preempted at any time. Its input is started again in another one, and goes on from what was
committed.
"""

from __future__ import annotations

import os
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

import modal
import modal.exception

from adapters.modal_cloud.call_options import CallOptions, gpu_choice
from adapters.modal_cloud.remote_functions import SHARES, with_options
from entrypoints.on_modal.first_contact import require_modal_to_answer, stated
from entrypoints.on_modal.image import app_tags, tensorboard_image, training_image
from entrypoints.on_modal.mounts import Mounts
from entrypoints.on_modal.options import defined_gpu
from entrypoints.settings import Settings

if TYPE_CHECKING:
    from entrypoints.on_modal.warm import Warm

require_modal_to_answer()

_SETTINGS: Final = stated(lambda: Settings.read(os.environ))
GPU: Final = stated(defined_gpu)
"""GPUs of a container unless ``--gpu`` says otherwise; 24 GB hold the default base model in bfloat16."""

tags: Final = app_tags(GPU, _SETTINGS.data_volume, str(_SETTINGS.modal_warm))
"""What a deployed app says of itself, to be compared with what is here."""

app = modal.App("moe-router-train", tags=dict(tags))
tensorboard = modal.App("moe-router-tensorboard")

image = training_image()
MOUNTS: Final = Mounts.of(_SETTINGS.data_volume)
output: Final = MOUNTS.at["/output"]
_CONTAINER: Final[dict[str, Any]] = {"image": image, "volumes": MOUNTS.at}
_ONCE: Final[dict[str, Any]] = {**_CONTAINER, "single_use_containers": True}
_WITH_GPU: Final[dict[str, Any]] = {"gpu": gpu_choice(GPU), "cpu": 4.0, "memory": 32 * 1024}
_WITHOUT_GPU: Final[dict[str, Any]] = {"cpu": 1.0, "memory": 4 * 1024}
_HEAD: Final[dict[str, Any]] = {"cpu": 4.0, "memory": 16 * 1024}
# Preemption is not a failure and costs no retry; retries are for what breaks. No delay: the container is new.
_LONG: Final[dict[str, Any]] = {"timeout": 24 * 3600, "retries": modal.Retries(max_retries=3, initial_delay=0.0)}
_SHORT: Final[dict[str, Any]] = {"timeout": 2 * 3600, "retries": modal.Retries(max_retries=1, initial_delay=0.0)}


def _worker(updates: modal.Queue | None, commit_seconds: float = 0.0, warm: Warm | None = None) -> Any:
    from adapters.modal_cloud.modal_volumes import Volumes
    from entrypoints.on_modal.warm import Warm
    from entrypoints.on_modal.worker import Worker

    return Worker(updates, Volumes(MOUNTS.written, MOUNTS.read, commit_seconds), warm or Warm())


def _calls(name: str, request: dict[str, Any], *more: Any) -> Any:
    """Return calls of another function of the app, with the options that this one was called with."""
    from adapters.modal_cloud.started_calls import ModalCalls

    return ModalCalls(with_options(name, functions[name], CallOptions.of_request(request)), more)


@app.function(**_ONCE, **_LONG, **_HEAD)
def train(request: dict[str, Any], updates: modal.Queue | None = None) -> dict[str, Any]:
    """Train a router; see :meth:`entrypoints.on_modal.worker.Worker.train`."""
    fit, encode = (_calls(name, request, updates) for name in ("fit", "encode"))
    result: dict[str, Any] = _worker(updates, request["commit_seconds"]).train(request, fit, encode)
    return result


@app.function(**_ONCE, **_LONG, **_WITH_GPU)
def fit(request: dict[str, Any], updates: modal.Queue | None = None) -> dict[str, Any]:
    """Train a router in one container with a GPU; see :meth:`entrypoints.on_modal.worker.Worker.fit`."""
    result: dict[str, Any] = _worker(updates, request["commit_seconds"]).fit(request)
    return result


@app.function(**_ONCE, **_LONG, **_WITH_GPU)
def encode(request: dict[str, Any], updates: modal.Queue | None = None) -> dict[str, Any]:
    """Encode one share of a job's prompts into the feature cache on its volume."""
    result: dict[str, Any] = _worker(updates).encode(request)
    return result


@app.function(**_ONCE, **_SHORT, **_WITHOUT_GPU)
def infer_in_shares(request: dict[str, Any], updates: modal.Queue | None = None) -> dict[str, Any]:
    """Answer prompts in several containers; see :meth:`entrypoints.on_modal.worker.Worker.infer_in_shares`."""
    result: dict[str, Any] = _worker(updates).infer_in_shares(request, _calls("infer", request, updates))
    return result


@app.cls(**_CONTAINER, **_SHORT, **_WITH_GPU, scaledown_window=_SETTINGS.modal_warm)
class Engine:
    """What answers and scores. A container of the deployed app stays for a while and keeps what it has loaded."""

    warm: Warm

    @modal.enter()
    def start(self) -> None:
        """Have nothing loaded."""
        from entrypoints.on_modal.warm import Warm

        self.warm = Warm()

    @modal.method()
    def evaluate(self, request: dict[str, Any], updates: modal.Queue | None = None) -> dict[str, Any]:
        """Score a router; see :meth:`entrypoints.on_modal.worker.Worker.evaluate`."""
        result: dict[str, Any] = _worker(updates, warm=self.warm).evaluate(request)
        return result

    @modal.method()
    def compare(self, request: dict[str, Any], updates: modal.Queue | None = None) -> dict[str, Any]:
        """Measure LoRA adapters; see :meth:`entrypoints.on_modal.worker.Worker.compare`."""
        result: dict[str, Any] = _worker(updates, warm=self.warm).compare(request)
        return result

    @modal.method()
    def infer(self, request: dict[str, Any], updates: modal.Queue | None = None) -> dict[str, Any]:
        """Route and answer prompts; see :meth:`entrypoints.on_modal.worker.Worker.infer`."""
        result: dict[str, Any] = _worker(updates, warm=self.warm).infer(request)
        return result


functions: Final[dict[str, Any]] = {
    "train": train,
    "fit": fit,
    "encode": encode,
    "evaluate": Engine,
    "compare": Engine,
    "infer": Engine,
    SHARES: infer_in_shares,
}
"""Functions by name, and the class with those that are its methods."""


@tensorboard.function(
    image=tensorboard_image(), volumes={"/output": output.with_mount_options(read_only=True)}, max_containers=1
)
@modal.concurrent(max_inputs=100)
@modal.wsgi_app()
def tensorboard_ui() -> Any:
    """Serve the training curves on the volume, following what runs commit, to whoever has the key in the log."""
    from adapters.metrics.keyed_access import KeyedAccess
    from adapters.metrics.tensorboard_mirror import tensorboard_application
    from entrypoints.on_modal.places import THERE

    address = None
    with suppress(modal.exception.Error):  # a container that starts before `modal serve` has published the app
        address = tensorboard_ui.get_web_url()
    return KeyedAccess(tensorboard_application(output, THERE.log_dir), address or "(the address of this app)")


@app.local_entrypoint()
def main(
    mode: str = "train",
    prompt: str | None = None,
    dataset_dir: str | None = None,
    data_path: str | None = None,
    eval_data_path: str | None = None,
    epochs: int | None = None,
    batch_size: int | None = None,
    lr: float | None = None,
    patience: int | None = None,
    min_delta: float | None = None,
    eval_steps: int | None = None,
    lr_factor: float | None = None,
    max_lr_reductions: int | None = None,
    min_lr: float | None = None,
    seed: int | None = None,
    base_model: str | None = None,
    router_out: str | None = None,
    router: str | None = None,
    lora_dir: str | None = None,
    log_dir: str | None = None,
    encode_shards: int | None = None,
    gpu: str | None = None,
    hf_secret: str | None = None,
) -> None:
    """Train a router, evaluate it or answer a prompt: --mode train, eval or infer. Paths are the containers'.

    The flags mean what they mean to `moe-router train`, `evaluate` and `infer`, and have the same defaults.
    """
    flags = dict(locals())
    from entrypoints.modal_main import run_mode

    run_mode(functions, app.app_id, **flags)
