"""Data sets on a hub: a real download by the hub's own client, from a small hub on this machine."""

import errno
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from hashlib import sha1
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import ClassVar

import pytest

from adapters.hub_errors import hub_errors
from domain.errors import StorageError

COMMIT = "1" * 40


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EACCES])
def test_a_disk_that_refuses_is_not_taken_for_the_network(number):
    refusal = pytest.raises(StorageError, match=f"cannot keep the model: {os.strerror(number)}")
    with refusal, hub_errors("model", "base model a/b", "name a folder"):
        raise OSError(number, os.strerror(number), "/cache/model.safetensors")


def rows(word: str) -> bytes:
    return b"".join(
        json.dumps({"prompt": f"{word} number {n}", "completion": "x"}).encode() + b"\n" for n in range(9)
    )


FILES = {
    "README.md": b"# a card",
    "data/train-00000-of-00002.jsonl": rows("first"),
    "data/train-00001-of-00002.jsonl": rows("second"),
    "data/test-00000-of-00001.jsonl": rows("held out"),
}


class Hub(BaseHTTPRequestHandler):
    """Knows one data set, `owner/name`."""

    asked: ClassVar[list[str]] = []

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        self.asked.append(path)
        if path in ("/api/datasets/owner/name", "/api/datasets/owner/name/revision/v1"):
            told = {"id": "owner/name", "sha": COMMIT, "siblings": [{"rfilename": name} for name in FILES]}
            self._send(200, json.dumps(told).encode())
            return
        name = path.removeprefix("/datasets/owner/name/resolve/").partition("/")[2]
        if path.startswith("/datasets/owner/name/") and name in FILES:
            content = FILES[name]
            self._send(200, content, {"ETag": f'"{sha1(content).hexdigest()}"', "X-Repo-Commit": COMMIT})
        else:
            self._send(404, b"{}", {"X-Error-Code": "RepoNotFound"})

    def do_HEAD(self) -> None:
        self.do_GET()

    def _send(self, status: int, content: bytes, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(content)), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(content)

    def log_message(self, *_args: object) -> None:
        """Say nothing."""


@pytest.fixture(scope="module")
def hub() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()


def generate(hub: str, tmp_path, source: str) -> subprocess.CompletedProcess[str]:
    (tmp_path / "other.jsonl").write_bytes(rows("other"))
    env = {**os.environ, "HF_ENDPOINT": hub, "HF_HOME": str(tmp_path / "home"), "HF_HUB_OFFLINE": "0"}
    env |= {"HF_HUB_CACHE": str(tmp_path / "hub"), "NO_PROXY": "*", "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-m", "entrypoints", "generate", "--adapter", f"hub={source}"]
    command += ["--adapter", f"other={tmp_path / 'other.jsonl'}", "--train-samples", "6", "--eval-samples", "2"]
    command += ["--output-dir", str(tmp_path / "ds")]
    return subprocess.run(command, capture_output=True, text=True, env=env, timeout=200, cwd=tmp_path)


def test_a_data_set_is_downloaded_and_its_training_rows_are_drawn(hub, tmp_path):
    done = generate(hub, tmp_path, "hf://datasets/owner/name@v1")
    assert done.returncode == 0, done.stderr
    assert "18 seen" in done.stdout
    assert "2 × JSON Lines" in done.stdout
    drawn = [json.loads(line)["text"] for line in (tmp_path / "ds" / "data.jsonl").read_text().splitlines()]
    assert sum(text.startswith(("first", "second")) for text in drawn) == 6
    assert not [path for path in Hub.asked if "test-00000" in path or "README" in path]


def test_what_the_hub_does_not_have_is_one_line(hub, tmp_path):
    done = generate(hub, tmp_path, "hf://datasets/owner/nothing")
    assert (done.returncode, done.stderr.count("\n")) == (5, 1), done.stderr
    assert "hf://datasets/owner/nothing: not on the hub, or private" in done.stderr
