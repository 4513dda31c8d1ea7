"""A small app under the project's name, to see how calls are followed; its containers start quickly."""

from __future__ import annotations

import asyncio
import os
import time
from pathlib import Path
from typing import Any

import modal

app = modal.App("moe-router-train", include_source=False, tags={"code": "here"})
image = (
    modal.Image.debian_slim()
    .uv_pip_install("attrs", "cattrs", "orjson")
    .add_local_python_source("tests", "domain", "application", "adapters")
)
output = modal.Volume.from_name("probe-output", create_if_missing=True)


def _mark(name: str) -> int:
    """Count how often this place was reached, over all containers."""
    path = Path("/output") / name
    count = int(path.read_text()) + 1 if path.exists() else 1
    path.write_text(str(count))
    output.commit()
    return count


@app.function(image=image, volumes={"/output": output}, retries=modal.Retries(max_retries=1, initial_delay=0.0))
def train(request: dict[str, Any], updates: modal.Queue | None = None) -> dict[str, Any]:
    from adapters.modal_cloud.cancellation import kept_cancellation
    from adapters.modal_cloud.modal_wire import bug_to_wire, error_to_wire
    from domain.errors import DataRejectedError

    started = _mark(request.get("name", "started"))
    do = request["do"]
    if do == "hang":
        try:  # whoever hears that it started may cancel it at once
            with kept_cancellation() as check:
                _tell(updates)
                for _ in range(20_000):  # longer than any test waits
                    check()
                    time.sleep(0.01)
        finally:
            _mark("ended")
    _tell(updates)
    print(f"asked to {do} with {request.get('value')}")
    if do == "reject":
        rejected = error_to_wire(DataRejectedError("no rows", where="/datasets/x", hint="add some"))
        return {**rejected, "of": request.get("of", "train")}
    if do == "bug":
        return bug_to_wire(ZeroDivisionError("as-fake-secret"))
    if do == "die":
        os._exit(3)
    if do == "wait":
        time.sleep(request["value"])
    if do == "open":
        with Path("/output/open.log").open("w"):
            output.reload()
    if do == "storm" or (do == "preempted" and started == 1):
        os.kill(os.getpid(), 9)
    if updates is not None:
        updates.put({"kind": "finished"})
    token = os.environ.get("HF_TOKEN")
    return {"value": request.get("value"), "token": token, "started": started, "of": request.get("of", "train")}


@app.cls(image=image, scaledown_window=60)
class Engine:
    """Counts in its own memory, which lives as long as its container."""

    calls: int

    @modal.enter()
    def start(self) -> None:
        self.calls = 0

    @modal.method()
    def infer(self, request: dict[str, Any], updates: modal.Queue | None = None) -> dict[str, Any]:
        self.calls += 1
        _tell(updates)
        return {"calls": self.calls, "value": request["value"], "installed": _importable(request.get("modules", ()))}

    @modal.asgi_app(requires_proxy_auth=True)
    def web(self) -> Any:
        async def page(scope: Any, receive: Any, send: Any) -> None:
            if scope["type"] != "http":  # the server's start and end
                return
            self.calls += 1
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": str(self.calls).encode()})

        return page


serving = modal.App("moe-router-serve", include_source=False, tags={"code": "here", "router": "a", "loras": "b"})


@serving.cls(image=image)
@modal.concurrent(max_inputs=10)
class Endpoint:
    """Answers beside its requests what it has loaded, and waits where it is asked to."""

    @modal.enter()
    def start(self) -> None:
        self.calls = 0
        self.ended = 0

    @modal.method()
    async def infer(self, request: dict[str, Any], updates: modal.Queue | None = None) -> dict[str, Any]:
        self.calls += 1
        if request["value"] == "other":
            return {"elsewhere": "the endpoint has loaded others"}
        if request["value"] == "wait":
            await updates.put.aio({"kind": "started"})
            try:
                await asyncio.sleep(60)
            finally:
                self.ended += 1
        return {"calls": self.calls, "ended": self.ended, "place": "endpoint", "value": request["value"]}


def _importable(modules: Any) -> list[str]:
    from importlib.util import find_spec

    return [name for name in modules if find_spec(name) is not None]


def _tell(updates: Any) -> None:
    if updates is not None:
        updates.put({"kind": "started"})
        updates.put({"kind": "progress", "id": 1, "description": "Working", "total": 3})
        updates.put({"kind": "advance", "id": 1, "steps": 2})


functions = {"train": train, "infer": Engine}
tags = {"code": "here"}
