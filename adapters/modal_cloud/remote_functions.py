"""The app's functions by name. Some are methods of a class, whose containers keep what they have loaded."""

from __future__ import annotations

from typing import Any, Final

import modal

from adapters.modal_cloud.call_options import CallOptions

APP_NAME: Final = "moe-router-train"
ENGINE: Final = "Engine"
"""The class with the methods below."""

SERVE_APP: Final = "moe-router-serve"
ENDPOINT: Final = "Endpoint"
"""The app that serves, and its class, which has the methods of what it may share."""

SHARES: Final = "infer_in_shares"
"""The function that has several containers answer."""

_METHODS: Final = frozenset({"compare", "evaluate", "infer"})
_WITHOUT_GPU: Final = frozenset({"train", "fetch", SHARES})
"""Functions that leave the work on a GPU to others, and hand the caller's options on to them."""


def deployed(name: str, client: modal.Client) -> Any:
    """Return the deployed app's function of this name, or the class whose method it is; nothing is asked yet."""
    if name in _METHODS:
        return modal.Cls.from_name(APP_NAME, ENGINE, client=client)
    return modal.Function.from_name(APP_NAME, name, client=client)


def serving(client: modal.Client) -> Any:
    """Return the class that serves, where it is deployed; nothing is asked yet."""
    return modal.Cls.from_name(SERVE_APP, ENDPOINT, client=client)


def with_options(name: str, target: Any, options: CallOptions, client: modal.Client | None = None) -> Any:
    """Return what can be called: the function, or the class's method, in containers with these options."""
    chosen = (options.without_gpu() if name in _WITHOUT_GPU else options).applied(target, client)
    return getattr(chosen(), name) if isinstance(chosen, modal.Cls) else chosen
