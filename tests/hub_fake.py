"""A small Hugging Face hub: repositories of models in memory, over the endpoints that its own client uses."""

from __future__ import annotations

import base64
import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote, urlsplit

from attrs import define, field


@define
class FakeHub:
    """Repositories by name; each maps a commit to its files.

    Attributes:
        commits: repository to commit to file name to content; the newest commit is the last.
        private: repositories that were made private.
    """

    commits: dict[str, dict[str, dict[str, bytes]]] = field(factory=dict)
    private: set[str] = field(factory=set)
    url: str = ""

    def newest(self, name: str) -> tuple[str, dict[str, bytes]]:
        commits = self.commits[name]
        return list(commits.items())[-1] if commits else ("0" * 40, {})

    def commit(self, name: str, files: dict[str, bytes]) -> str:
        content = {**self.newest(name)[1], **files}
        oid = hashlib.sha1(repr(sorted(content.items())).encode()).hexdigest()
        self.commits[name][oid] = content
        return oid


def _handler(hub: FakeHub) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: Any) -> None:
            """Say nothing."""

        def answer(
            self, status: int, value: Any = None, headers: dict[str, str] | None = None, body: bytes = b""
        ) -> None:
            content = body if value is None else json.dumps(value).encode()
            self.send_response(status)
            for key, each in {"Content-Length": str(len(content)), **(headers or {})}.items():
                self.send_header(key, each)
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(content)

        def missing(self) -> None:
            self.answer(404, {"error": "Repository not found"}, {"X-Error-Code": "RepoNotFound"})

        def do_POST(self) -> None:
            length = int(self.headers.get("Content-Length") or 0)
            body = self.rfile.read(length)
            if self.headers.get("Authorization") != "Bearer hf_test":
                self.answer(401, {"error": "Invalid username or password."})
                return
            path = urlsplit(self.path).path
            if path == "/api/repos/create":
                wanted = json.loads(body)
                name = "/".join(filter(None, (wanted.get("organization"), wanted["name"])))
                if name in self.server_repositories:
                    self.answer(409, {"error": "You already created this model repo", "url": f"{hub.url}/{name}"})
                    return
                hub.commits[name] = {}
                if wanted.get("private") or wanted.get("visibility") == "private":
                    hub.private.add(name)
                self.answer(200, {"url": f"{hub.url}/{name}"})
            elif path == "/api/validate-yaml":
                self.answer(200, {"errors": [], "warnings": []})
            elif "/preupload/" in path:
                files = [
                    {"path": each["path"], "uploadMode": "regular", "shouldIgnore": False}
                    for each in json.loads(body)["files"]
                ]
                self.answer(200, {"files": files})
            elif "/commit/" in path:
                name = path.removeprefix("/api/models/").split("/commit/")[0]
                lines = [json.loads(line) for line in body.splitlines()]
                files = {
                    line["value"]["path"]: base64.b64decode(line["value"]["content"])
                    for line in lines
                    if line["key"] == "file"
                }
                oid = hub.commit(name, files)
                self.answer(200, {"commitUrl": f"{hub.url}/{name}/commit/{oid}", "commitOid": oid, "hookOutput": ""})
            else:
                self.answer(404, {"error": path})

        @property
        def server_repositories(self) -> dict[str, Any]:
            return hub.commits

        def do_GET(self) -> None:
            path = unquote(urlsplit(self.path).path)
            if path.startswith("/api/models/"):
                self.describe(path.removeprefix("/api/models/"))
                return
            name, _, rest = path.strip("/").partition("/resolve/")
            revision, _, file = rest.partition("/")
            if name not in hub.commits:
                self.missing()
                return
            newest, files = hub.newest(name)
            files = hub.commits[name].get(revision, files)
            if file not in files:
                self.answer(404, {"error": "Entry not found"}, {"X-Error-Code": "EntryNotFound"})
                return
            oid = revision if revision in hub.commits[name] else newest
            etag = hashlib.sha1(files[file]).hexdigest()
            self.answer(200, headers={"ETag": f'"{etag}"', "X-Repo-Commit": oid}, body=files[file])

        do_HEAD = do_GET  # noqa: N815

        def describe(self, what: str) -> None:
            name, _, rest = what.partition("/revision/")
            name = name.partition("/tree/")[0]
            revision = rest or "main"
            if name not in hub.commits:
                self.missing()
                return
            newest, files = hub.newest(name)
            if revision not in ("main", *hub.commits[name]):
                self.answer(404, {"error": "Revision not found"}, {"X-Error-Code": "RevisionNotFound"})
                return
            oid = newest if revision == "main" else revision
            files = hub.commits[name].get(oid, files)
            if "/tree/" in what:
                self.answer(
                    200,
                    [{"type": "file", "path": each, "size": len(body), "oid": "0"} for each, body in files.items()],
                )
                return
            self.answer(
                200,
                {
                    "id": name,
                    "sha": oid,
                    "private": name in hub.private,
                    "siblings": [{"rfilename": each} for each in files],
                },
            )

    return Handler


@contextmanager
def running_hub() -> Iterator[FakeHub]:
    """Run a hub on a free port of this machine."""
    hub = FakeHub()
    server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(hub))
    hub.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
