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
from typing import Any, Final

import modal

from entrypoints.on_modal.first_contact import require_modal_to_answer
from entrypoints.on_modal.image import training_image
from entrypoints.settings import Settings

require_modal_to_answer()

GPU: Final = Settings.read(os.environ).modal_gpu
"""GPU of a container unless ``--gpu`` says otherwise; 24 GB hold the default base model in bfloat16."""

app = modal.App("moe-router-train")
tensorboard = modal.App("moe-router-tensorboard")

image = training_image()
datasets = modal.Volume.from_name("moe-lora-data", create_if_missing=True)
checkpoints = modal.Volume.from_name("moe-lora-checkpoints", create_if_missing=True)
output = modal.Volume.from_name("routing-output", create_if_missing=True)
legacy = modal.Volume.from_name("claimhawk-training-data", create_if_missing=True)
cache = modal.Volume.from_name("moe-router-cache", create_if_missing=True)

# Files lie under datasets/ in the volume; without sub_path they would appear at /datasets/datasets/….
VOLUMES: Final[dict[str, modal.Volume]] = {
    "/datasets": datasets.with_mount_options(sub_path="datasets", read_only=True),
    "/checkpoints": checkpoints.with_mount_options(read_only=True),
    "/data": legacy.with_mount_options(read_only=True),
    "/output": output,
    "/cache": cache,
}
_WRITTEN: Final = (output, cache)
_READ: Final = tuple(VOLUMES[path] for path in ("/datasets", "/checkpoints", "/data"))
# Preemption is not a failure and costs no retry; retries are for what breaks. No delay: the container is new.
_RUN: Final[dict[str, Any]] = {
    "image": image,
    "volumes": VOLUMES,
    "gpu": GPU,
    "timeout": 24 * 3600,
    "retries": modal.Retries(max_retries=3, initial_delay=0.0),
    "single_use_containers": True,
}


def _worker(updates: modal.Queue | None, commit_seconds: float = 0.0) -> Any:
    from adapters.modal_cloud.modal_volumes import Volumes
    from entrypoints.on_modal.worker import Worker

    return Worker(updates, Volumes(_WRITTEN, _READ, commit_seconds))


@app.function(**_RUN)
def train(request: dict[str, Any], updates: modal.Queue | None = None) -> dict[str, Any]:
    """Train a router; see :meth:`entrypoints.on_modal.worker.Worker.train`."""
    worker = _worker(updates, request["commit_seconds"])
    result: dict[str, Any] = worker.train(request, encode_shares=encode.map)
    return result


@app.function(**_RUN)
def encode(request: dict[str, Any]) -> dict[str, Any]:
    """Encode one share of a job's prompts into the feature cache on its volume."""
    result: dict[str, Any] = _worker(None).encode(request)
    return result


@app.function(**_RUN)
def evaluate(request: dict[str, Any], updates: modal.Queue | None = None) -> dict[str, Any]:
    """Score a router; see :meth:`entrypoints.on_modal.worker.Worker.evaluate`."""
    result: dict[str, Any] = _worker(updates).evaluate(request)
    return result


@app.function(**_RUN)
def infer(request: dict[str, Any], updates: modal.Queue | None = None) -> dict[str, Any]:
    """Route and answer prompts; see :meth:`entrypoints.on_modal.worker.Worker.infer`."""
    result: dict[str, Any] = _worker(updates).infer(request)
    return result


functions: Final[dict[str, Any]] = {"train": train, "encode": encode, "evaluate": evaluate, "infer": infer}
"""Functions by name, for callers that run this app without deploying it."""


@tensorboard.function(image=image, volumes={"/output": output.with_mount_options(read_only=True)}, max_containers=1)
@modal.concurrent(max_inputs=100)
@modal.wsgi_app(requires_proxy_auth=True)
def tensorboard_ui() -> Any:
    """Serve the training curves on the volume, following what runs commit; the address asks for a proxy token."""
    from adapters.metrics.tensorboard_mirror import tensorboard_application
    from entrypoints.on_modal.places import THERE

    return tensorboard_application(output, THERE.log_dir)


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

    run_mode(functions, **flags)
