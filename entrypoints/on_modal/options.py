"""The command line's options for containers, in Modal's terms, checked before anything is contacted."""

from __future__ import annotations

from typing import Final

from adapters.modal_cloud.call_options import CallOptions
from domain.errors import UsageError
from entrypoints.backend import Where

GPUS: Final = (
    "T4", "L4", "A10", "A10G", "L40S", "A100", "A100-40GB", "A100-80GB", "H100", "H100!", "H200", "B200", "B200+",
    "B300", "RTX-PRO-6000",
)  # fmt: skip
"""Kinds of GPU that Modal offers; ``:N`` asks for N of them."""


def call_options(where: Where) -> CallOptions:
    """Return the options of a call; raises UsageError for a kind of GPU that Modal does not have."""
    return CallOptions(where.gpu and checked_gpu(where.gpu), where.hf_secret, where.hours)


def checked_gpu(kinds: str) -> str:
    """Return kinds of GPU, separated by commas; raises UsageError for one that Modal does not have."""
    for kind in filter(None, map(str.strip, kinds.split(","))):
        name, _, count = kind.partition(":")
        if name.upper() not in GPUS or (count and not count.isdecimal()):
            raise UsageError(f"Modal has no GPU {kind!r}", hint=f"it has {', '.join(GPUS)}; L4:2 asks for two")
    return kinds
