"""The version of this software."""

from __future__ import annotations


def tool_version() -> str:
    """Return the installed version, or "0+source" when run from a bare checkout."""
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("moe-lora-router")
    except PackageNotFoundError:
        return "0+source"


def install_extra(name: str) -> str:
    """Return the command that installs an extra's packages: they are on a package index, this software is not."""
    from importlib.metadata import requires

    found = [line.partition(";") for line in requires("moe-lora-router") or ()]
    wanted = [f"'{package.strip()}'" for package, _, marker in found if f'extra == "{name}"' in marker]
    return " ".join(["pip install", *wanted])
