"""The command line's options for containers, in Modal's terms, checked before anything is contacted."""

from __future__ import annotations

import os
from importlib import import_module, reload
from typing import Any, Final

from adapters.modal_cloud.call_options import CallOptions, gpu_choice
from domain.errors import UsageError
from entrypoints.backend import Where
from entrypoints.on_modal.first_contact import modal_run_option
from entrypoints.settings import Settings, Variable

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
    """Return kinds of GPU as Modal writes them, ``T4,L4:2``; raises UsageError for one that Modal does not have."""
    found = list(filter(None, map(str.strip, kinds.split(",")))) or [kinds]
    for kind in found:
        name, _, count = kind.partition(":")
        if name.upper() not in GPUS or (count and not count.isdecimal()):
            raise UsageError(f"Modal has no GPU {kind!r}", hint=f"it has {', '.join(GPUS)}; L4:2 asks for two")
    return ",".join(found).upper()


def defined_gpu() -> str:
    """Return the GPUs that the app is defined with: those of ``modal run … --gpu``, else those of the settings."""
    return checked_gpu(modal_run_option("--gpu") or Settings.read(os.environ).modal_gpu)


def defined_app(choice: str | None) -> Any:
    """Return the module that defines the app, with this choice of GPUs, or the settings' where it is None.

    Modal takes a choice where functions are defined and nowhere else, so that the module is read as if the variable
    for it had been set; and read again where it was read for other GPUs.
    """
    variable = Variable.MODAL_GPU
    before = os.environ.get(variable)
    if choice is not None:
        os.environ[variable] = choice
    try:
        module: Any = import_module("entrypoints.modal_app")
        return module if defined_gpu() == module.GPU else reload(module)
    finally:
        os.environ.pop(variable, None)
        if before is not None:
            os.environ[variable] = before
