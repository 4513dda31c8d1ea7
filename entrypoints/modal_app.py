"""The app on Modal: ``modal run -m entrypoints.modal_app``, ``modal deploy -m entrypoints.modal_app``.

Importing this module contacts nothing, except from Modal's own command line, which is about to do so anyway: there
an unreachable Modal is one line within seconds (:mod:`entrypoints.on_modal.first_contact`). What the functions do
is in :mod:`entrypoints.on_modal.worker`; here stands only where they run: image, GPU, time limits, which volume
lies where.

Every GPU function may be preempted at any time. It runs in a container of its own, is started again on the same
input, and goes on from what it has committed.
"""

from __future__ import annotations

import os
from contextlib import suppress
from typing import Any, Final

import modal
import modal.exception

from adapters.modal_cloud.call_options import CallOptions, gpu_choice
from entrypoints.on_modal.first_contact import require_modal_to_answer
from entrypoints.on_modal.image import app_tags, tensorboard_image, training_image
from entrypoints.on_modal.places import DATASETS_FOLDER
from entrypoints.on_modal.places import VOLUMES as PLACES
from entrypoints.settings import Settings

require_modal_to_answer()

_SETTINGS: Final = Settings.read(os.environ)
GPU: Final = _SETTINGS.modal_gpu
"""GPUs of a container unless ``--gpu`` says otherwise; 24 GB hold the default base model in bfloat16."""

tags: Final = app_tags(GPU, _SETTINGS.data_volume)
"""What a deployed app says of itself, to be compared with what is here."""

app = modal.App("moe-router-train", tags=dict(tags))
tensorboard = modal.App("moe-router-tensorboard")

image = training_image()
_volumes: Final = {
    path: modal.Volume.from_name(name, create_if_missing=True)
    for path, name in {"/datasets": _SETTINGS.data_volume, **PLACES}.items()
}
output, cache = _volumes["/output"], _volumes["/cache"]

# Files lie under datasets/ in the volume; without sub_path they would appear at /datasets/datasets/….
VOLUMES: Final[dict[str, modal.Volume]] = {
    **{path: volume.with_mount_options(read_only=True) for path, volume in _volumes.items()},
    "/datasets": _volumes["/datasets"].with_mount_options(sub_path=DATASETS_FOLDER, read_only=True),
    "/output": output,
    "/cache": cache,
}
_WRITTEN: Final = (output, cache)
_READ: Final = tuple(volume for path, volume in VOLUMES.items() if path not in ("/output", "/cache"))
_CONTAINER: Final[dict[str, Any]] = {"image": image, "volumes": VOLUMES, "single_use_containers": True}
_GPU: Final[dict[str, Any]] = {**_CONTAINER, "gpu": gpu_choice(GPU), "cpu": 4.0, "memory": 32 * 1024}
# Preemption is not a failure and costs no retry; retries are for what breaks. No delay: the container is new.
_LONG: Final[dict[str, Any]] = {"timeout": 24 * 3600, "retries": modal.Retries(max_retries=3, initial_delay=0.0)}
_SHORT: Final[dict[str, Any]] = {"timeout": 2 * 3600, "retries": modal.Retries(max_retries=1, initial_delay=0.0)}


def _worker(updates: modal.Queue | None, commit_seconds: float = 0.0) -> Any:
    from adapters.modal_cloud.modal_volumes import Volumes
    from entrypoints.on_modal.worker import Worker

    return Worker(updates, Volumes(_WRITTEN, _READ, commit_seconds))


@app.function(**_GPU, **_LONG)
def train(request: dict[str, Any], updates: modal.Queue | None = None) -> dict[str, Any]:
    """Train a router; see :meth:`entrypoints.on_modal.worker.Worker.train`."""
    worker, asked = _worker(updates, request["commit_seconds"]), CallOptions.of_request(request)
    result: dict[str, Any] = worker.train(
        request, asked.without_gpu().applied(fetch, None).remote, asked.applied(encode, None).map
    )
    return result


@app.function(**_CONTAINER, **_SHORT, cpu=2.0, memory=4 * 1024)
def fetch(request: dict[str, Any]) -> dict[str, Any]:
    """Download a base model into the cache volume, once for all containers that will read it, and without a GPU."""
    result: dict[str, Any] = _worker(None).fetch(request)
    return result


@app.function(**_GPU, **_LONG)
def encode(request: dict[str, Any]) -> dict[str, Any]:
    """Encode one share of a job's prompts into the feature cache on its volume."""
    result: dict[str, Any] = _worker(None).encode(request)
    return result


@app.function(**_GPU, **_SHORT)
def evaluate(request: dict[str, Any], updates: modal.Queue | None = None) -> dict[str, Any]:
    """Score a router; see :meth:`entrypoints.on_modal.worker.Worker.evaluate`."""
    result: dict[str, Any] = _worker(updates).evaluate(request)
    return result


@app.function(**_GPU, **_SHORT)
def infer(request: dict[str, Any], updates: modal.Queue | None = None) -> dict[str, Any]:
    """Route and answer prompts; see :meth:`entrypoints.on_modal.worker.Worker.infer`."""
    result: dict[str, Any] = _worker(updates).infer(request)
    return result


functions: Final[dict[str, Any]] = {"train": train, "encode": encode, "evaluate": evaluate, "infer": infer}
"""Functions by name, for callers that run this app without deploying it."""


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
