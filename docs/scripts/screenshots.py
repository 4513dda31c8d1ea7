"""Take docs/pictures/page.png and report.png in headless Chromium (it and its driver must be installed).

``python docs/scripts/screenshots.py http://127.0.0.1:8765 FOLDER/report.html``, with the tutorial's server running;
without arguments only page.png, of the server that the tests use, which routes by words and has no model.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from entrypoints.serving.app import serving_app
from tests.browser import Browser, chromium
from tests.serving_world import running, serving, wait_ready

PICTURES = Path(__file__).parents[1] / "pictures"
PROMPT = "Hi! Could you find me a hotel in Porto for three nights? Thanks"


def page(browser: Browser, url: str, prompt: str = PROMPT) -> None:
    """Ask the page something and wait for the decision and the answer."""
    browser.call("window/rect", width=1180, height=1250)
    browser.call("url", url=url)
    browser.wait("document.getElementById('model').options.length > 1", 60)
    browser.run("document.getElementById('prompt').value = arguments[0]", prompt)
    browser.run("document.getElementById('go').click()")
    browser.wait("document.getElementById('answer').textContent && document.getElementById('stop').disabled", 120)
    browser.wait("document.getElementById('recent').innerText", 30)
    browser.screenshot(PICTURES / "page.png")


def without_model() -> None:
    """Take the picture of the page alone."""
    with (
        running(serving_app(serving())) as url,
        tempfile.TemporaryDirectory() as profile,
        chromium(Path(profile)) as browser,
    ):
        wait_ready(url)
        page(browser, url, "Please file a claim for the kitchen window")


def main(url: str, report: Path) -> None:
    """Take both pictures."""
    with tempfile.TemporaryDirectory() as profile, chromium(Path(profile)) as browser:
        page(browser, url)
        browser.call("window/rect", width=1180, height=1150)
        browser.call("url", url=report.resolve().as_uri())
        browser.screenshot(PICTURES / "report.png")


if __name__ == "__main__":
    if len(sys.argv) > 1:
        main(sys.argv[1], Path(sys.argv[2]))
    else:
        without_model()
