"""How the endpoint behaves, apart from what it serves."""

from __future__ import annotations

from typing import Final

from attrs import field, frozen

from application.serving.choose_answerer import BASE_ANSWERS
from domain.answer_policy import Fallback
from domain.routing import ROUTERS_OWN, OtherLimits
from domain.stickiness import SWITCH_MARGIN

AUTO: Final = "auto"
"""The model name under which the router decides."""


@frozen
class ServeSettings:
    """Limits and habits of the endpoint.

    Attributes:
        api_key: what clients must send as ``Authorization: Bearer``; None asks for nothing.
        fallback: who answers where the router makes no choice, unless a request says otherwise.
        limits: limits in place of the router's own, unless a request says otherwise.
        switch_margin: see :func:`domain.stickiness.settle`.
        max_body: largest request body in bytes.
        max_waiting: most requests that are being answered or wait; more get 429.
        timeout: seconds that one request may take.
        log_prompts: whether the decision log holds the prompts' texts.
        local_only: whether requests must name this machine as their host (guards a server without a key against
            pages in a browser that call it by a foreign name).
    """

    api_key: str | None = field(default=None, repr=False)
    fallback: Fallback = BASE_ANSWERS
    limits: OtherLimits = ROUTERS_OWN
    switch_margin: float = SWITCH_MARGIN
    max_body: int = 4 * 2**20
    max_waiting: int = 256
    timeout: float = 300.0
    log_prompts: bool = False
    local_only: bool = False
