"""The guide's lines from a wheel in a fresh folder, on each Python that a user may have, against the fake Modal.

Slow, so that it runs only when it is asked for. Containers always run on the image's Python, which is that of the
tests. A Python without this machine's packages gets those that a client needs from the package index, else it is
skipped with the reason.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from tests.modal_fake import CREDENTIALS
from tests.modal_fake.images import ROOT, hidden
from tests.modal_world import ROUTER, WORDS, built_wheel, lora_files
from tests.tiny_models import tiny_model

pytestmark = [
    pytest.mark.skipif(not os.environ.get("MOE_ROUTER_WHEEL"), reason="run it with make test-modal-wheel"),
    pytest.mark.timeout(3000),
]
CLIENT = ("attrs", "cattrs", "click", "filelock", "huggingface_hub", "modal", "numpy", "orjson", "packaging")
CLIENT += ("platformdirs", "rich", "safetensors", "stamina", "structlog", "threadpoolctl", "zstandard")
QUICK = ["--eval-steps", "4", "--lr", "0.01"]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """The wheel."""
    return built_wheel(tmp_path_factory.mktemp("wheel"))


def this_python(folder):
    """Make an environment of this Python; it borrows the packages here, but not the checkout."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True)
    (site,) = folder.glob("lib/python*/site-packages")
    borrowed = [path for path in sys.path if path.endswith("site-packages")]
    (site / "borrowed.pth").write_text("\n".join(borrowed) + "\n")


def newer_python(folder):
    """Make an environment of Python 3.13 with what a client needs; skip where there is none."""
    found = sorted(Path.home().glob(".pyenv/versions/3.13*/bin/python3.13")) or [shutil.which("python3.13")]
    if not found[0]:
        pytest.skip("there is no Python 3.13 here")
    subprocess.run([str(found[0]), "-m", "venv", str(folder)], check=True)
    install = [folder / "bin" / "python", "-m", "pip", "install", "-q", "-c", ROOT / "constraints.txt", *CLIENT]
    done = subprocess.run(list(map(str, install)), capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"the package index did not give what a client needs: {done.stderr.splitlines()[-1]}")


@pytest.fixture(scope="module", params=[this_python, newer_python], ids=["this Python", "Python 3.13"])
def user(request, wheel, modal_workspace, tmp_path_factory):
    """A user in a fresh folder, with the wheel installed and the volumes as the guide expects them."""
    folder = tmp_path_factory.mktemp("user")
    request.param(folder / "venv")
    python = str(folder / "venv" / "bin" / "python")
    install = [
        sys.executable,
        "-m",
        "pip",
        "-q",
        "--python",
        python,
        "install",
        "--no-deps",
        "--no-index",
        str(wheel),
    ]
    subprocess.run(install, check=True, capture_output=True)
    base = tiny_model(folder / "tiny", "qwen3-vl")
    modal_workspace.volumes.empty()
    for name in ("moe-lora-data", "moe-lora-checkpoints", "claimhawk-training-data"):
        modal_workspace.volumes.create(name)
    files = {str(path.relative_to(base)): path.read_bytes() for path in base.rglob("*") if path.is_file()}
    checkpoints = {f"tiny/{name}": content for name, content in files.items()}
    modal_workspace.volumes.named("moe-lora-checkpoints").files = checkpoints | lora_files(files, folder / "made")
    (folder / "here").mkdir()
    return User(folder / "venv" / "bin", folder / "here")


class User:
    """Types command lines."""

    def __init__(self, bin, folder):
        self.bin, self.folder = bin, folder
        hidden_names = ("MOE_ROUTER", "PYTHONPATH", "TRAIN_DATA", "VAL_DATA", "ROUTER_OUT")
        kept = {name: value for name, value in os.environ.items() if not name.startswith(hidden_names)}
        self.environment = {**kept, "BASE_MODEL_ID": "/checkpoints/tiny", "MOE_ROUTER_CACHE": str(folder / "cache")}

    def command(self, line):
        program, *words = line.split() if isinstance(line, str) else line
        run = {"modal": ["-m", "modal"], "moe-router": ["-m", "entrypoints"]}[program]
        return [str(self.bin / "python"), *run, *words]

    def until(self, line, words):
        """Type a command that goes on, read until a line with these words, and end it; return that line."""
        streams = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
        with subprocess.Popen(self.command(line), cwd=self.folder, env=self.environment, **streams) as going_on:
            try:
                return next(told for told in going_on.stdout if words in told)
            finally:
                going_on.send_signal(signal.SIGINT)

    def checks(self, smoke, whole):
        """Type the guide's checklist for a data set, word by word."""

        def typed(line):
            return subprocess.run(
                line, shell=True, check=True, capture_output=True, text=True, cwd=self.folder
            ).stdout

        listed = typed(f"ls -lh {smoke}/")
        assert all(name in listed for name in ("data.jsonl", "train.jsonl", "val.jsonl", "metadata.json"))
        assert re.search(r"3 \S+/data.jsonl", typed(f"wc -l {smoke}/*.jsonl"))
        if shutil.which("jq"):
            assert typed(f"jq .label {whole}/train.jsonl | sort -u").split() == ["0", "1", "2"]
            counted = typed(f"jq -r .adapter {whole}/train.jsonl | sort | uniq -c").split()
            assert counted == ["9", "calendar", "9", "claim-window", "9", "provider-select"]
            assert json.loads(typed(f"jq . {whole}/metadata.json"))["samples"]["total"] == 48

    def __call__(self, line, code=0, **environment):
        given = {name: value for name, value in (self.environment | environment).items() if value is not None}
        done = subprocess.run(self.command(line), capture_output=True, text=True, cwd=self.folder, env=given)
        assert done.returncode == code, f"{line}\n{done.stdout}\n{done.stderr}"
        return done.stdout


def test_every_line_of_the_guide(user, modal_workspace):
    volumes = modal_workspace.volumes
    # Generation: the smoke test, and the three sources
    user("moe-router generate --test")
    (made,) = user.folder.glob("datasets/routing_test_*")
    assert {path.name for path in made.glob("*.json*")} >= {"data.jsonl", "train.jsonl", "val.jsonl", "metadata.json"}
    sources = [
        word for name in WORDS for word in (f"--{name}-dataset", str(ROOT / f"adapters/sample_sources/{name}.jsonl"))
    ]
    counts = ["--train-samples", "12", "--eval-samples", "4", "--train-val-split", "0.75", "--seed", "42"]
    place = ["--prefix", "routing", "--output-dir", "datasets/routing_custom"]
    user(["moe-router", "generate", *sources, *counts, *place])
    user("moe-router verify datasets/routing_custom")
    user.checks("datasets/routing_test_*", "datasets/routing_custom")
    # Credentials, and upload
    mine = {"MODAL_CONFIG_PATH": str(user.folder / "modal.toml")}
    user(f"modal token set --token-id {CREDENTIALS[0]} --token-secret {CREDENTIALS[1]}", **mine)
    mine |= {"MODAL_TOKEN_ID": None, "MODAL_TOKEN_SECRET": None}
    assert "Would upload" in user("moe-router publish datasets/routing_custom --dry-run")
    assert "✓ Upload complete!" in user("moe-router publish datasets/routing_custom --latest")
    assert "✓ Upload complete!" in user(
        "moe-router publish datasets/routing_custom --volume moe-lora-data --remote-dir datasets --force"
    )
    assert "moe-lora-data" in user("modal volume list", **mine)
    # Training: by folder, with every flag, by files of the old volume, and by variables
    run = ["modal", "run", "-m", "entrypoints.modal_app"]
    trained = user([*run, "--dataset-dir", "/datasets/routing_custom", "--epochs", "3", "--batch-size", "8",
                    "--patience", "5", "--min-delta", "0.001", *QUICK])  # fmt: skip
    assert "✅ Router head saved to /output/router-head.safetensors" in trained
    assert re.search(r"Step +\d+: eval_loss=\d", trained)
    old = volumes.named("claimhawk-training-data")
    old.files = {f"routing-{name}.jsonl": (user.folder / f"datasets/routing_custom/{split}.jsonl").read_bytes()
                 for name, split in (("train", "train"), ("eval", "val"))}  # fmt: skip
    user([*run, "--data-path", "/data/routing-train.jsonl", "--eval-data-path", "/data/routing-eval.jsonl",
          "--epochs", "1", *QUICK])  # fmt: skip
    user(
        [*run, "--epochs", "1", *QUICK],
        TRAIN_DATA="/datasets/routing_custom/train.jsonl",
        VAL_DATA="/datasets/routing_custom/val.jsonl",
        ROUTER_OUT="/output/router-custom.pt",
    )
    output = volumes.named("routing-output")
    assert {"router-head.pt", ROUTER, "router-custom.pt", "router-custom.safetensors"} <= set(output.files)
    # Following it, and fetching the router
    user("modal deploy -m entrypoints.modal_app")
    detached = user(["moe-router", "train", "--backend", "modal", "--detach", "--epochs", "1", *QUICK])
    (call_id,) = set(re.findall(r"\bfc-\w+", detached))
    assert "Train samples: 27" in user.until("modal app logs moe-router-train --follow", "Train samples")
    assert "✅ Router head saved" in user(f"moe-router train --backend modal --attach {call_id}")
    assert "Train samples: 27" in user("modal app logs moe-router-train")
    modal_workspace.run(modal_workspace.apps.stop(modal_workspace.apps.deployed("moe-router-train").id))
    user("modal volume get routing-output router-head.pt ./router-head.pt")
    assert (user.folder / "router-head.pt").read_bytes() == output.files["router-head.pt"]
    user(f"moe-router download {ROUTER}")
    assert (user.folder / ROUTER).read_bytes() == output.files[ROUTER]
    # Evaluation and inference
    assert "Accuracy" in user([*run, "--mode", "eval", "--dataset-dir", "/datasets/routing_custom"])
    assert json.loads(output.files["router-eval.json"])["total"] == 12
    answered = user([*run, "--mode", "infer", "--prompt", "Click December 3 in the calendar"])
    assert re.search(r"^\[router\] selected adapter=", answered, re.MULTILINE)
    assert re.search(r"^\[model\] response: ", answered, re.MULTILINE)


def test_the_curves_open_in_a_browser_by_the_address_in_the_log(user, modal_workspace):
    command = user.command("modal serve --timeout 120 -m entrypoints.modal_app::tensorboard")
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=user.folder, env=user.environment
    ) as serving:
        try:
            while not (served := modal_workspace.functions.named("tensorboard_ui")) or not served[-1].definition:
                assert serving.poll() is None, serving.communicate()
                time.sleep(0.05)
            with pytest.raises(urllib.error.HTTPError, match="403"):
                urllib.request.urlopen(served[-1].web_url, timeout=120)
            assert "?key=" in next(line for line in serving.stdout if "?key=" in line)
        finally:
            serving.send_signal(signal.SIGINT)
            serving.stdout.read()  # it says that it ends


def test_a_client_without_torch_asks_for_nothing_that_only_containers_have(user):
    for line in ("moe-router --help", "moe-router modal-check", "moe-router infer --help"):
        user(line)


def recipe():
    """Return the recipe for vLLM in the documentation."""
    text = (ROOT / "docs" / "modal.md").read_text("utf8")
    return next(block for block in re.findall(r"```python\n(.*?)```", text, re.DOTALL) if "moe-router-vllm" in block)


def test_the_recipe_for_vllm_deploys_and_its_image_holds_what_the_middleware_needs(modal_fake, user, tmp_path):
    from adapters.base_model.transformers_base import load_base
    from adapters.base_model.transformers_features import TransformersFeatureExtractor
    from adapters.router.safetensors_router_store import SafetensorsRouterStore
    from tests.answering_world import small_router

    modal_fake.apps.add_secret("vllm-key", {"VLLM_API_KEY": "key"})
    (user.folder / "vllm_on_modal.py").write_text(recipe())
    user("modal deploy vllm_on_modal.py")
    (served,) = [each for each in modal_fake.functions.named("serve") if each.definition]
    assert served.definition.webhook_config.web_server_port == 8000
    assert served.definition.resources.gpu_config.gpu_type == "L4"
    lines = modal_fake.apps.recipe(served.definition.image_id)
    brought = (
        "RUN pip install torch transformers prometheus-client starlette uvicorn pillow"  # what vllm needs itself
    )
    folder = tiny_model(tmp_path / "tiny")
    base = load_base(str(folder), cache_dir=tmp_path, device="cpu")
    router = SafetensorsRouterStore().save(
        small_router(TransformersFeatureExtractor(base)), tmp_path / "r.safetensors"
    )
    start = (ROOT / "tests" / "modal_fake" / "container_start.py").read_text("utf8").partition("# Python takes")[0]
    use = f"""
sys.path.insert(0, {str(ROOT)!r})
import asyncio
from application.routing.route_prompts import RouteRequest
from entrypoints.vllm_middleware import RouterMiddleware
inside = RouterMiddleware(None, {{"MOE_ROUTER_FILE": {str(router)!r}, "MOE_ROUTER_API_KEY": "key"}})
async def decide():
    routing = await inside.serving.load()
    print((await routing.route(RouteRequest(("open the calendar",)))).best)
asyncio.run(decide())
"""
    environment = {**os.environ, "FAKE_HIDDEN": hidden([*lines, brought])}
    done = subprocess.run([sys.executable, "-c", start + use], capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split()[-1] in WORDS
