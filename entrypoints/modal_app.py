"""The app on Modal: ``modal run -m entrypoints.modal_app``, ``modal deploy -m entrypoints.modal_app``.

Importing this module contacts nothing, except from Modal's own command line, which is about to do so anyway: there
an unreachable Modal is one line within seconds (:mod:`entrypoints.modal_first_contact`). What the functions do is in
:mod:`entrypoints.modal_worker`; here stands only where they run: image, GPU, time limits, which volume lies where.

Every GPU function may be preempted at any time. It runs in a container of its own, is started again on the same
input, and goes on from what it has committed.
"""

from __future__ import annotations

import os
from typing import Any, Final

import modal

from entrypoints.modal_first_contact import require_modal_to_answer
from entrypoints.modal_image import training_image

require_modal_to_answer()

GPU: Final = os.environ.get("MOE_ROUTER_MODAL_GPU", "L4")
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
# Preemption is no failure and costs no retry; retries are for what breaks. No delay: the container is fresh anyway.
_RUN: Final[dict[str, Any]] = {
    "image": image,
    "volumes": VOLUMES,
    "gpu": GPU,
    "timeout": 24 * 3600,
    "retries": modal.Retries(max_retries=3, initial_delay=0.0),
    "single_use_containers": True,
}


def _worker(updates: modal.Queue | None, commit_seconds: float = 0.0) -> Any:
    from entrypoints.modal_worker import Volumes, Worker

    return Worker(updates, Volumes(_WRITTEN, _READ, commit_seconds))


@app.function(**_RUN)
def train(request: dict[str, Any], updates: modal.Queue | None = None) -> dict[str, Any]:
    """Train a router; see :meth:`entrypoints.modal_worker.Worker.train`."""
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
    """Score a router; see :meth:`entrypoints.modal_worker.Worker.evaluate`."""
    result: dict[str, Any] = _worker(updates).evaluate(request)
    return result


@app.function(**_RUN)
def infer(request: dict[str, Any], updates: modal.Queue | None = None) -> dict[str, Any]:
    """Route and answer prompts; see :meth:`entrypoints.modal_worker.Worker.infer`."""
    result: dict[str, Any] = _worker(updates).infer(request)
    return result


functions: Final[dict[str, Any]] = {"train": train, "encode": encode, "evaluate": evaluate, "infer": infer}
"""Functions by name, for callers that run this app without deploying it."""


@tensorboard.function(image=image, volumes={"/output": output.with_mount_options(read_only=True)}, max_containers=1)
@modal.concurrent(max_inputs=100)
@modal.wsgi_app(requires_proxy_auth=True)
def tensorboard_ui() -> Any:
    """Serve the training curves on the volume, following what runs commit; the address asks for a proxy token."""
    from entrypoints.modal_places import LOG_DIR
    from entrypoints.modal_tensorboard import tensorboard_application

    return tensorboard_application(output, LOG_DIR)


@app.local_entrypoint()
def main(
    mode: str = "train",
    prompt: str | None = None,
    dataset_dir: str | None = None,
    data_path: str | None = None,
    eval_data_path: str | None = None,
    epochs: int = 100,
    batch_size: int = 8,
    lr: float = 1e-4,
    patience: int = 5,
    min_delta: float = 0.001,
    eval_steps: int = 20,
    lr_factor: float = 0.5,
    max_lr_reductions: int = 5,
    min_lr: float = 5e-8,
    seed: int = 42,
    base_model: str | None = None,
    router_out: str | None = None,
    router: str | None = None,
    lora_dir: str | None = None,
    log_dir: str | None = None,
    encode_shards: int = 1,
    gpu: str | None = None,
    hf_secret: str | None = None,
) -> None:
    """Train a router, evaluate it or answer a prompt: --mode train, eval or infer. Paths are the containers'."""
    from entrypoints.modal_main import RunOptions, run_mode

    run_mode(
        functions,
        RunOptions(
            mode=mode,
            prompt=prompt,
            dataset_dir=dataset_dir,
            data_path=data_path,
            eval_data_path=eval_data_path,
            epochs=epochs,
            batch_size=batch_size,
            learning_rate=lr,
            patience=patience,
            min_delta=min_delta,
            eval_steps=eval_steps,
            lr_factor=lr_factor,
            max_lr_reductions=max_lr_reductions,
            min_lr=min_lr,
            seed=seed,
            base_model=base_model,
            router_out=router_out,
            router=router,
            lora_dir=lora_dir,
            log_dir=log_dir,
            encode_shards=encode_shards,
            gpu=gpu,
            hf_secret=hf_secret,
        ),
    )
