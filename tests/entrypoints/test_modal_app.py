"""The app as users run it: real modal CLI and client, real container runtime, tiny models, fake Modal."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from adapters.router.router_bytes import from_bytes
from tests.tiny_models import tiny_model

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[2]
WORDS = {
    "calendar": ["book a day", "open the calendar", "click december"],
    "claim-window": ["edit the claim", "scroll the claim form", "claim amount field"],
    "provider-select": ["pick a provider", "choose the dentist", "provider dropdown"],
}
FLAGS = ["--dataset-dir", "/datasets/routing_1", "--base-model", "/checkpoints/tiny", "--eval-steps", "2"]
FLAGS += ["--lr", "0.01", "--epochs", "4"]
ROUTER = "router-head.safetensors"


def rows(start: int, stop: int) -> bytes:
    return b"".join(
        json.dumps(
            {"text": f"{WORDS[name][i % 3]} number {i}", "label": label, "adapter": name, "source_id": f"{name}_{i}"}
        ).encode()
        + b"\n"
        for i in range(start, stop)
        for label, name in enumerate(WORDS)
    )


@pytest.fixture(scope="module")
def base_model(tmp_path_factory):
    """A tiny base model as files."""
    folder = tiny_model(tmp_path_factory.mktemp("base") / "tiny", "qwen3-vl")
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture
def volumes(modal_fake, base_model):
    modal_fake.volumes.create("moe-lora-data").files = {
        "datasets/routing_1/train.jsonl": rows(0, 8),
        "datasets/routing_1/val.jsonl": rows(8, 12),
        "datasets/routing_1/eval.jsonl": rows(12, 16),
    }
    checkpoints = modal_fake.volumes.create("moe-lora-checkpoints")
    checkpoints.files = {f"tiny/{name}": content for name, content in base_model.items()}
    return modal_fake.volumes


def lora_files(base_model, folder):
    """Return random LoRA adapters for the tiny base as files, in folders named as on the user's volume."""
    from adapters.base_model.transformers_base import load_base
    from entrypoints.modal_places import LORA_FOLDERS
    from tests.lora_world import write_loras

    for name, content in base_model.items():
        (folder / "tiny" / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / "tiny" / name).write_bytes(content)
    made = write_loras(load_base(str(folder / "tiny"), cache_dir=folder / "cache"), folder / "loras")
    return {
        f"{LORA_FOLDERS.get(adapter, adapter)}/{path.relative_to(made[adapter])}": path.read_bytes()
        for adapter in made
        for path in made[adapter].rglob("*")
        if path.is_file()
    }


def run(*arguments, **environment):
    env = {k: v for k, v in os.environ.items() if not k.startswith("MOE_ROUTER")}
    env |= {"PYTHONPATH": str(ROOT), **environment}
    command = [sys.executable, "-m", *arguments]
    return subprocess.run(command, capture_output=True, text=True, env=env, cwd=ROOT, timeout=200)


def saved_router(volumes):
    return from_bytes(volumes.named("routing-output").files[ROUTER])


def same_router(one, other):
    assert (one.card.features, one.card.temperature) == (other.card.features, other.card.temperature)
    assert set(one.tensors) == set(other.tensors)
    for name, tensor in one.tensors.items():
        assert (tensor == other.tensors[name]).all(), name


@pytest.fixture(scope="module")
def trained():
    return {}


def test_modal_run_trains_a_router(modal_fake, volumes, trained):
    result = run("modal", "run", "-m", "entrypoints.modal_app", *FLAGS)
    assert result.returncode == 0, result.stdout + result.stderr
    assert "Train samples: 24" in result.stdout
    assert re.search(r"Step +2: eval_loss=\d", result.stdout)
    assert "TensorBoard logs: /output/tensorboard/router_" in result.stdout
    assert "✅ Router head saved to /output/router-head.safetensors" in result.stdout
    output = volumes.named("routing-output")
    assert any("tfevents" in path for path in output.files)
    assert not any(".checkpoint" in path for path in output.files)
    trained["router"] = saved_router(volumes)
    trained["file"] = output.files[ROUTER]
    trained["calls"] = list(modal_fake.calls)


def test_the_recorded_requests_ask_for_the_right_machine(modal_fake, trained):
    created = {r.function.function_name: r.function for name, r in trained["calls"] if name == "FunctionCreate"}
    train = created["train"]
    assert train.resources.gpu_config.gpu_type == "L4"
    assert train.timeout_secs == 24 * 3600
    assert (train.retry_policy.retries, train.retry_policy.initial_delay_ms) == (3, 0)
    assert train.single_use_containers
    mounts = {m.mount_path: m for m in train.volume_mounts}
    assert set(mounts) == {"/datasets", "/checkpoints", "/data", "/output", "/cache"}
    assert (mounts["/datasets"].sub_path, mounts["/datasets"].read_only) == ("datasets", True)
    assert not mounts["/output"].read_only
    assert not mounts["/output"].sub_path
    names = {v.name: v.id for v in map(modal_fake.volumes.by_id, (m.volume_id for m in mounts.values()))}
    assert set(names) == {
        "moe-lora-data", "moe-lora-checkpoints", "claimhawk-training-data", "routing-output", "moe-router-cache"
    }  # fmt: skip
    recipe = "\n".join(modal_fake.apps.recipe(train.image_id))
    for package in ("torch", "transformers", "peft", "attrs", "click", "structlog", "tensorboard", "modal"):
        assert re.search(rf"\b{package}==\d", recipe), package
    assert "+cpu" not in recipe


def test_all_layers_are_shipped_and_nothing_else_of_the_checkout(modal_fake, trained):
    shipped = {f.filename for name, r in trained["calls"] if name == "MountGetOrCreate" for f in r.files}
    for layer in ("domain", "application", "adapters", "entrypoints"):
        here = {f"/root/{path.relative_to(ROOT)}" for path in (ROOT / layer).rglob("*.py")}
        assert here <= shipped, here - shipped
    assert not [path for path in shipped if path.startswith("/root/tests")]


class Preemption:
    """Takes a container away right after it has committed a certain checkpoint for the n-th time."""

    def __init__(self, fake, number, checkpoint, nth):
        self.fake, self.number, self.checkpoint, self.nth = fake, number, checkpoint, nth
        self.seen = set()

    def __call__(self, container, volume):
        found = [data for path, data in volume.files.items() if f".checkpoint/{self.checkpoint}" in path]
        if found and self.nth:
            self.seen.add(found[0])
            if len(self.seen) == self.nth:
                self.nth = 0
                container.preempt(self.number)

    def __enter__(self):
        self.fake.containers.on_commit = self
        self.before = self.fake.containers.started
        return self

    def __exit__(self, *_):
        self.fake.containers.on_commit = lambda container, volume: None
        self.started = self.fake.containers.started - self.before


@pytest.mark.parametrize(
    ("number", "checkpoint", "nth"), [(signal.SIGKILL, "head", 2), (signal.SIGINT, "features", 1)]
)
def test_a_preempted_run_goes_on_and_ends_with_the_uninterrupted_result(
    modal_fake, volumes, trained, number, checkpoint, nth
):
    with Preemption(modal_fake, number, checkpoint, nth) as preemption:
        result = run("entrypoints", "train", "--backend", "modal", *FLAGS, MOE_ROUTER_COMMIT_SECONDS="1e-9")
    assert result.returncode == 0, result.stderr
    assert preemption.started == 2
    assert result.stdout.startswith("✅ Router head saved to /output/router-head.safetensors")
    assert result.stderr.count("Router Training Configuration") == 2
    same_router(saved_router(volumes), trained["router"])


@pytest.fixture
def trained_volumes(volumes, trained):
    """The volumes as the first test's training left them."""
    volumes.named("routing-output").files = {ROUTER: trained["file"]}
    return volumes


def test_modal_run_evaluates_and_keeps_the_figures(modal_fake, trained_volumes):
    result = run(
        "modal", "run", "-m", "entrypoints.modal_app", "--mode", "eval", "--dataset-dir", "/datasets/routing_1"
    )
    assert result.returncode == 0, result.stdout + result.stderr
    kept = json.loads(trained_volumes.named("routing-output").files["router-eval.json"])
    assert (kept["total"], kept["scored"]) == (12, "/datasets/routing_1/eval.jsonl")
    assert f"Accuracy {kept['accuracy']:.4f}" in result.stdout


def test_routing_on_modal_decides_for_every_prompt(modal_fake, trained_volumes):
    prompts = ["--prompt", "open the calendar number 3", "--prompt", "choose the dentist number 1"]
    result = run("entrypoints", "infer", "--backend", "modal", "--route-only", "--json", *prompts)
    assert result.returncode == 0, result.stderr
    decisions = json.loads(result.stdout)["decisions"]
    assert [each["prompt"] for each in decisions] == prompts[1::2]
    assert all(0 <= each["confidence"] <= 1 for each in decisions)


def test_a_missing_data_set_is_one_line_with_the_containers_path(modal_fake, trained_volumes):
    result = run("entrypoints", "evaluate", "--backend", "modal", "--dataset-dir", "/datasets/none")
    assert result.returncode == 2
    assert result.stderr.splitlines()[-1].startswith("moe-router: /datasets/none/eval.jsonl")


def test_encoding_shared_by_containers_gives_the_same_head(modal_fake, volumes, trained):
    modal_fake.containers.limit = 2
    before = modal_fake.containers.started
    try:
        result = run("entrypoints", "train", "--backend", "modal", "--encode-shards", "2", *FLAGS)
    finally:
        modal_fake.containers.limit = 1
    assert result.returncode == 0, result.stderr
    assert modal_fake.containers.started == before + 3
    one, other = saved_router(volumes), trained["router"]
    assert one.card.features == other.card.features
    for name, tensor in one.tensors.items():
        assert abs(tensor - other.tensors[name]).max() < 1e-3, name


def test_modal_run_answers_through_the_lora_adapter_that_the_router_picks(
    modal_fake, trained_volumes, base_model, tmp_path
):
    checkpoints = trained_volumes.named("moe-lora-checkpoints")
    checkpoints.files |= lora_files(base_model, tmp_path)
    prompt = "open the calendar number 3"
    result = run("modal", "run", "-m", "entrypoints.modal_app", "--mode", "infer", "--prompt", prompt)
    assert result.returncode == 0, result.stdout + result.stderr
    assert re.search(r"^\[router\] selected adapter=\S+", result.stdout, re.MULTILINE)
    assert re.search(r"^\[model\] response: ", result.stdout, re.MULTILINE)


def test_a_detached_run_goes_on_without_the_caller(modal_fake, volumes):
    result = run("entrypoints", "train", "--backend", "modal", "--detach", *FLAGS)
    assert result.returncode == 0, result.stderr
    call_id, app_id = re.findall(r"\b(?:fc|ap)-\w+", result.stdout)
    output = volumes.named("routing-output")
    while ROUTER not in output.files:
        assert not modal_fake.functions.calls[call_id].outputs or ROUTER in output.files
        time.sleep(0.05)
    assert from_bytes(output.files[ROUTER])
    modal_fake.run(modal_fake.apps.stop(app_id))
