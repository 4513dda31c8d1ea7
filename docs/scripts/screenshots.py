"""Take docs/pictures/page.png and report.png in headless Chromium (it and its driver must be installed).

What they show is real, such as what the demo leaves behind:

    moe-router demo --output-dir demo/d
    moe-router evaluate --dataset-dir demo/d/routing --router demo/d/router-head.safetensors --report report.html
    moe-router serve --router demo/d/router-head.safetensors --lora-dir demo/d/loras &
    python docs/scripts/screenshots.py http://127.0.0.1:8000 report.html
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from tests.browser import Browser, chromium

PICTURES = Path(__file__).parents[1] / "pictures"
PROMPTS = (
    "Choose Dr. Linnea Garrowby in the provider drop-down.",
    "Will it rain in the mountains this weekend?",
    "Hello there. Open December 3 in the calendar. Thanks a lot!",
)
"""Asked one after the other; the picture shows the last one's answer, and all of them in the list of decisions."""


def page(browser: Browser, url: str) -> None:
    """Ask the page, and wait for the decisions and the answers."""
    browser.call("window/rect", width=1180, height=1340)
    browser.call("url", url=url)
    browser.wait("document.getElementById('model').options.length > 1", 60)
    for number, prompt in enumerate(PROMPTS, start=1):
        browser.run("document.getElementById('prompt').value = arguments[0]", prompt)
        browser.run("document.getElementById('go').click()")
        browser.wait("!document.getElementById('stop').disabled", 10)
        browser.wait("document.getElementById('answer').textContent && document.getElementById('stop').disabled", 120)
        browser.wait(f"document.getElementById('recent').rows.length >= {number}", 30)
    browser.screenshot(PICTURES / "page.png")


def report(browser: Browser, file: Path) -> None:
    """Show the upper part of a report."""
    browser.call("window/rect", width=1180, height=925)
    browser.call("url", url=file.resolve().as_uri())
    browser.screenshot(PICTURES / "report.png")


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as profile, chromium(Path(profile)) as opened:
        page(opened, sys.argv[1])
        report(opened, Path(sys.argv[2]))
