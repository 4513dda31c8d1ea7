"""The command line's options for containers, in Modal's terms, checked before anything is contacted."""

from __future__ import annotations

import os
from importlib import import_module, reload
from typing import Any, Final

from adapters.modal_cloud.call_options import CallOptions, gpu_choice
from domain.errors import UsageError
from entrypoints.backend import Where
from entrypoints.settings import Variable

GPUS: Final = (
    "T4", "L4", "A10", "A10G", "L40S", "A100", "A100-40GB", "A100-80GB", "H100", "H100!", "H200", "B200", "B200+",
    "B300", "RTX-PRO-6000",
)  # fmt: skip
"""Kinds of GPU that Modal offers; ``:N`` asks for N of them."""


def call_options(where: Where) -> CallOptions:
    """Return the options of a call; raises UsageError for a kind of GPU that Modal does not have."""
    kinds = where.gpu and gpu_choice(checked_gpu(where.gpu))
    one, several = (None, ",".join(kinds)) if isinstance(kinds, list) else (kinds, None)
    return CallOptions(one, where.hf_secret, where.hours, several)


def checked_gpu(kinds: str) -> str:
    """Return kinds of GPU, separated by commas; raises UsageError for one that Modal does not have."""
    for kind in list(filter(None, map(str.strip, kinds.split(",")))) or [kinds]:
        name, _, count = kind.partition(":")
        if name.upper() not in GPUS or (count and not count.isdecimal()):
            raise UsageError(f"Modal has no GPU {kind!r}", hint=f"it has {', '.join(GPUS)}; L4:2 asks for two")
    return kinds


def defined_app(choice: str | None) -> Any:
    """Return the module that defines the app, with this choice of GPUs unless it is None.

    Modal takes a choice where functions are defined and nowhere else, so that the module is read as if the variable
    for it had been set.
    """
    name, variable = "entrypoints.modal_app", Variable.MODAL_GPU
    if choice is None:
        return import_module(name)
    before = os.environ.get(variable)
    os.environ[variable] = choice
    try:
        module: Any = import_module(name)
        return module if choice == module.GPU else reload(module)
    finally:
        os.environ.pop(variable)
        if before is not None:
            os.environ[variable] = before
