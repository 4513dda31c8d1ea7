"""Headless Chromium through its driver's own protocol (W3C WebDriver): no package needed."""

from __future__ import annotations

import base64
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import httpx2
from attrs import frozen

MISSING = next((f"{name} is not installed" for name in ("chromium", "chromedriver") if not shutil.which(name)), None)
_FLAGS = (
    *("headless", "no-sandbox", "disable-gpu", "disable-quic", "no-first-run", "disable-background-networking"),
    *("disable-component-update", "disable-sync", "window-size=1280,1000", "force-device-scale-factor=1"),
)


@frozen
class Browser:
    """One window."""

    http: httpx2.Client
    session: str

    def call(self, path: str, **body: Any) -> Any:
        response = self.http.post(f"/session/{self.session}/{path}", json=body)
        assert response.status_code == 200, response.text
        return response.json()["value"]

    def run(self, script: str, *arguments: Any) -> Any:
        return self.call("execute/sync", script=script, args=list(arguments))

    def press(self, *keys: str) -> None:
        """Type into whatever has the focus; modifiers go before the key that they hold for."""
        down = [{"type": "keyDown", "value": key} for key in keys]
        up = [{"type": "keyUp", "value": key} for key in reversed(keys)]
        self.call("actions", actions=[{"type": "key", "id": "keyboard", "actions": [*down, *up]}])

    def wait(self, script: str, seconds: float = 10.0) -> Any:
        """Return the script's value as soon as it is true."""
        end = time.monotonic() + seconds
        while not (found := self.run(f"return {script}")):
            assert time.monotonic() < end, self.run("return document.body.innerText")
            time.sleep(0.05)
        return found

    def screenshot(self, path: Path) -> None:
        value = self.http.get(f"/session/{self.session}/screenshot").json()["value"]
        path.write_bytes(base64.b64decode(value))


@contextmanager
def chromium(profile: Path, *, dark: bool = False) -> Iterator[Browser]:
    """Start a browser with an empty profile."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    driver = subprocess.Popen(
        ["chromedriver", f"--port={port}"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        with httpx2.Client(base_url=f"http://127.0.0.1:{port}", timeout=60, trust_env=False) as http:
            for _ in range(200):
                with suppress(httpx2.HTTPError):
                    if http.get("/status").status_code == 200:
                        break
                time.sleep(0.05)
            flags = [f"--{flag}" for flag in (*_FLAGS, f"user-data-dir={profile}")]
            if dark:
                flags.append("--force-dark-mode")
            wanted = {
                "browserName": "chrome",
                "goog:chromeOptions": {"args": flags},
                "goog:loggingPrefs": {"browser": "WARNING"},
            }
            made = http.post("/session", json={"capabilities": {"alwaysMatch": wanted}}).json()["value"]
            browser = Browser(http, made["sessionId"])
            yield browser
            http.delete(f"/session/{browser.session}")
    finally:
        driver.terminate()
        driver.wait(10)
