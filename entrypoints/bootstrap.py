"""The composition root: the one place where ports meet their adapters, and a backend's name its implementation."""

from __future__ import annotations

from importlib import import_module
from typing import Final

from attrs import mutable

from entrypoints.backend import Backend, Where
from entrypoints.on_modal.wiring import ModalParts
from entrypoints.wiring.local import LocalApplication

BACKENDS: Final = {"local": "entrypoints.wiring.local_backend", "modal": "entrypoints.on_modal.backend"}
"""Modules of the places where work may run; each has an ``open_backend(application, where)``."""


@mutable(slots=False)
class Application(LocalApplication, ModalParts):
    """Everything on one machine, what lies on Modal, and the places where work may run.

    Attributes:
        environment: environment variables; flags override them, they override defaults.
    """

    def backend(self, where: Where) -> Backend:
        """Return the place where work is to run; nothing is contacted before it is used."""
        backend: Backend = import_module(BACKENDS[where.name]).open_backend(self, where)
        return backend
