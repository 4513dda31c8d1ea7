"""The version of this software."""

from __future__ import annotations


def tool_version() -> str:
    """Return the installed version, or "0+source" when run from a bare checkout."""
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("moe-lora-router")
    except PackageNotFoundError:
        return "0+source"
