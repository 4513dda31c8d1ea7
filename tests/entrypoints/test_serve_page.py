"""The page in a real browser."""

from __future__ import annotations

from pathlib import Path

import pytest
from attrs import evolve

from application.routing.route_prompts import RouteRequest
from domain.pieces import pieces_of
from domain.routing import NearestPrompt, RoutingDecision
from entrypoints.serving.app import serving_app
from tests.browser import MISSING, chromium
from tests.serving_world import WordRouter, client, running, serving, wait_ready

CTRL, SHIFT, ENTER, TAB = "\ue009", "\ue008", "\ue007", "\ue004"


class Explaining(WordRouter):
    """Remembers one prompt, which looks like markup; the piece with "claim" decides."""

    async def route(self, request: RouteRequest) -> RoutingDecision:
        decision = await super().route(request)
        pieces = pieces_of(request.prompts[0]).texts
        piece = next((each for each in pieces if "claim" in each), pieces[0])
        near = (NearestPrompt("<b>bold</b> claim", "claims", 0.9),)
        return evolve(decision, nearest=near, piece=piece, pieces=len(pieces))


def test_the_page_loads_nothing_from_elsewhere() -> None:
    with client(serving()) as http:
        response = http.get("/")
    assert response.headers["content-type"].startswith("text/html")
    assert "default-src 'none'" in response.headers["content-security-policy"]
    assert "http://" not in response.text.replace("http://www.w3.org", "")
    assert "https://" not in response.text
    assert "innerHTML" not in response.text


@pytest.mark.skipif(MISSING is not None, reason=str(MISSING))
def test_a_prompt_is_asked_by_keyboard_and_shown_with_everything_behind_it(tmp_path: Path) -> None:
    state = serving(router=Explaining(), api_key="key")
    with running(serving_app(state)) as address, chromium(tmp_path) as browser:
        wait_ready(address)
        browser.call("url", url=address)
        browser.wait("!document.getElementById('key-box').hidden")
        browser.run(
            "const key = document.getElementById('key'); key.value = 'key'; key.dispatchEvent(new Event('change'))"
        )
        browser.wait("document.getElementById('model').options.length === 5")
        browser.run("document.getElementById('prompt').focus()")
        for letter in "file a claim":
            browser.press(letter)
        browser.press(CTRL, ENTER)
        assert browser.wait("document.getElementById('answer').textContent") == "claims: file a claim"
        shown = browser.run("return document.getElementById('decision').innerText")
        assert shown.startswith("claims\nconfident")
        assert "<b>bold</b> claim — claims (0.900)" in shown
        assert "0.900 (least 0.500)" in shown
        assert "claims" in browser.wait("document.getElementById('recent').innerText")
        browser.run(
            "document.getElementById('prompt').value = arguments[0]",
            "user: a function\nassistant: ok\nuser: hello there you",
        )
        browser.run("document.getElementById('prompt').focus()")
        browser.press(SHIFT, ENTER)
        assert browser.wait("document.getElementById('who').textContent.includes('base model')")
        assert browser.run("return document.getElementById('answer').textContent") == ""
        browser.run("document.getElementById('prompt').value = arguments[0]", "Hello there. File <i>a claim</i> now!")
        browser.run("document.getElementById('prompt').focus()")
        browser.press(SHIFT, ENTER)
        assert browser.wait("document.querySelector('.decides')?.textContent") == "File <i>a claim</i> now!"
        shown = browser.run("return document.getElementById('decision').innerText")
        assert "decided by\t“File <i>a claim</i> now!”, of 3 pieces" in shown
        assert "Hello there.\n" in shown
        browser.press(TAB)
        assert browser.run("return document.activeElement.id") == "model"
        logged = browser.call("se/log", type="browser")
        assert [each for each in logged if "401" not in each["message"]] == []
