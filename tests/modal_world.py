"""What the tests of the app on Modal share: rows, LoRA adapters, the command line, a preemption."""

import json
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

from adapters.modal_cloud.modal_jobs import RESULT
from adapters.modal_cloud.modal_wire import raise_remote_error
from adapters.router.router_bytes import from_bytes
from entrypoints.bootstrap import Application
from entrypoints.on_modal.warm import Warm
from entrypoints.on_modal.worker import Volumes, Worker

ROOT = Path(__file__).parents[1]
LAYERS = ("domain", "application", "adapters", "entrypoints")
ROUTER = "router-head.safetensors"
WORDS = {
    "calendar": ["book a day", "open the calendar", "click december"],
    "claim-window": ["edit the claim", "scroll the claim form", "claim amount field"],
    "provider-select": ["pick a provider", "choose the dentist", "provider dropdown"],
}


def rows(start: int, stop: int) -> bytes:
    return b"".join(
        json.dumps(
            {
                "text": f"{WORDS[name][i % 3]} number {i}{' and scroll' * (i % 4 * 3)}",
                "label": label,
                "adapter": name,
                "source_id": f"{name}_{i}",
            }
        ).encode()
        + b"\n"
        for i in range(start, stop)
        for label, name in enumerate(WORDS)
    )


def lora_files(base_model, folder):
    """Return random LoRA adapters for the tiny base as files, in folders named as on the user's volume."""
    from adapters.base_model.transformers_base import load_base
    from entrypoints.on_modal.places import LORA_FOLDERS
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


def built_wheel(folder):
    """Build the wheel out of the four layers alone; return its file.

    It keeps a few of the packaged texts that belong to no adapter, so that training is quick.
    """
    source, wheels = folder / "source", folder / "wheels"
    source.mkdir()
    wheels.mkdir()
    for name in LAYERS:
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source / name)
    for name, texts in (("background", "PHRASES"), ("generic", "PROMPTS")):
        with (source / "adapters" / "companions" / f"{name}.py").open("a") as module:
            module.write(f'{texts} = "\\n".join({texts}.splitlines()[:12])\n')
    build = "import sys; from setuptools import build_meta; build_meta.build_wheel(sys.argv[1])"
    subprocess.run([sys.executable, "-c", build, str(wheels)], cwd=source, check=True, capture_output=True)
    (wheel,) = wheels.iterdir()
    return wheel


def installed(folder):
    """Build the wheel and unpack it into a folder, as pip would; return the folder."""
    with zipfile.ZipFile(built_wheel(folder)) as archive:
        archive.extractall(folder / "site")
    return folder / "site"


def run(*arguments, limit=280, site=ROOT, cwd=ROOT, **environment):
    """Run a module as a process; `limit` seconds at most."""
    env = {k: v for k, v in os.environ.items() if not k.startswith("MOE_ROUTER")}
    env |= {"PYTHONPATH": str(site), **environment}
    command = [sys.executable, "-m", *arguments]
    return subprocess.run(command, capture_output=True, text=True, env=env, cwd=cwd, timeout=limit)


def saved_router(volumes):
    return from_bytes(volumes.named("routing-output").files[ROUTER])


def same_router(one, other):
    assert (one.card.features, one.card.temperature) == (other.card.features, other.card.temperature)
    assert set(one.tensors) == set(other.tensors)
    for name, tensor in one.tensors.items():
        assert (tensor == other.tensors[name]).all(), name


class JobsHere:
    """Stands in for :class:`adapters.modal_cloud.modal_jobs.ModalJobs`: this process does a container's work."""

    def __init__(self, warm=None):
        self.messages, self.warm = [], warm or Warm()

    def put_many(self, messages):
        self.messages += messages

    def follow(self, name, request):
        result = getattr(Worker(self, Volumes(()), self.warm), name)(json.loads(json.dumps(request)))
        raise_remote_error(result)
        yield from self.messages
        yield {"kind": RESULT, "result": result}

    def run(self, name, request, on_message):
        *messages, last = self.follow(name, request)
        for message in messages:
            on_message(message)
        return last["result"]


class ModalHere(Application):
    """The command line's wiring, with the containers' work done in this process: one container, which stays."""

    def modal_jobs(self, _where):
        return JobsHere(vars(self).setdefault("warm", Warm()))


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
