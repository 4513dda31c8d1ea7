"""How the containers of a call differ from the app's own choice."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import modal
from attrs import evolve, frozen


@frozen
class CallOptions:
    """How the containers of a call differ from the app's own choice.

    Attributes:
        gpu: kind of GPU to ask for.
        choice: kinds of GPU, separated by commas, of which the first that is free is taken. Modal knows a choice only
            where an app is defined, not for a single call.
        secret: name of a Modal secret that the containers get (``HF_TOKEN`` for gated models).
        hours: time limit.
    """

    gpu: str | None = None
    secret: str | None = None
    hours: float | None = None
    choice: str | None = None

    def applied(self, function: Any, client: modal.Client | None) -> Any:
        """Return the function, or the class, with these options."""
        options: dict[str, Any] = {}
        if self.gpu:
            options["gpu"] = self.gpu
        if self.secret:
            options["secrets"] = [modal.Secret.from_name(self.secret, required_keys=[], client=client)]
        if self.hours:
            options["timeout"] = int(self.hours * 3600)
        return function.with_options(**options) if options else function

    @classmethod
    def of_request(cls, request: Mapping[str, Any]) -> CallOptions:
        """Return the options of :meth:`as_request`, for containers that a container starts."""
        return cls(request.get("gpu"), request.get("secret"), request.get("hours"))

    def without_gpu(self) -> CallOptions:
        """Return these options for a function that needs no GPU."""
        return evolve(self, gpu=None)

    def as_request(self) -> dict[str, Any]:
        """Return what a container needs to know to give the containers that it starts the same."""
        return {"gpu": self.gpu, "secret": self.secret, "hours": self.hours}


NO_OPTIONS: Final = CallOptions()
"""The app's own choice."""


def gpu_choice(text: str) -> str | list[str]:
    """Return what Modal takes for kinds of GPU, separated by commas: the first that is free."""
    kinds = [kind.strip() for kind in text.split(",") if kind.strip()]
    return kinds if len(kinds) > 1 else kinds[0]
