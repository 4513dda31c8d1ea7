"""Run every command of docs/tutorial.md, in order, and write what it printed below it.

``python docs/scripts/tutorial.py [FOLDER [N]]`` works in FOLDER (else in a new one), from block N on (else from the
first, 1), and takes a few minutes. A block of commands (```` ```sh ````) followed by a block of output
(```` ```text ````) gets the output anew, shortened in the middle; the page is written after each of them. A command
that ends in ``&`` runs until the page is through.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "tutorial.md"
BLOCK = re.compile(r"```sh\n(?P<commands>.*?)```\n(?:\n```text\n(?P<output>.*?)```\n)?", re.DOTALL)
HEAD, TAIL = 12, 26
READY = "http://127.0.0.1:8765/ready"


def shortened(text: str) -> str:
    """Return output without colours and progress bars, with the middle of long ones left out."""
    text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text)
    lines = [line.split("\r")[-1].rstrip() for line in text.strip().splitlines()]
    lines = [line for line in lines if not re.search(r": \d+ of \d+$", line)]  # how far it was; a bar on a terminal
    if len(lines) > HEAD + TAIL + 1:
        lines = [*lines[:HEAD], "…", *lines[-TAIL:]]
    return "\n".join(lines) + "\n"


def wait_until_ready() -> None:
    """Wait for the server; a server that does not come is a TimeoutError."""
    for _ in range(600):
        try:
            with urllib.request.urlopen(READY, timeout=2) as answer:
                if answer.status == 200:
                    return
        except OSError:
            time.sleep(0.5)
    raise TimeoutError(READY)


def main() -> None:
    """Rewrite the page."""
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else tempfile.mkdtemp(prefix="tutorial-")).resolve()
    first = int(sys.argv[2]) if len(sys.argv) > 2 else 1
    folder.mkdir(parents=True, exist_ok=True)
    environment = os.environ | {
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT),
        "REPOSITORY": str(ROOT),
        "COLUMNS": "120",
        "TERM": "dumb",
    }
    running: list[subprocess.Popen[bytes]] = []

    def run(block: re.Match[str]) -> str:
        commands = block["commands"]
        if commands.strip().endswith("&"):
            running.append(subprocess.Popen(["bash", "-c", commands.strip()[:-1]], cwd=folder, env=environment))
            wait_until_ready()
            return block[0]
        done = subprocess.run(
            ["bash", "-e", "-c", commands], cwd=folder, env=environment, stdout=-1, stderr=-2, text=True, check=False
        )
        print(f"$ {commands.strip()}\n{done.stdout}", flush=True)
        if done.returncode:
            sys.exit(f"exit code {done.returncode}")
        if block["output"] is None:
            return block[0]
        return f"```sh\n{commands}```\n\n```text\n{shortened(done.stdout).replace(str(folder) + '/', '')}```\n"

    page, at = PAGE.read_text("utf-8"), 0
    try:
        for number in range(1, len(BLOCK.findall(page)) + 1):
            block = BLOCK.search(page, at)
            assert block is not None  # they were counted
            new = run(block) if number >= first else block[0]
            page = page[: block.start()] + new + page[block.end() :]
            at = block.start() + len(new)
            PAGE.write_text(page, "utf-8")
    finally:
        for process in running:
            process.terminate()
            process.wait(30)


if __name__ == "__main__":
    main()
