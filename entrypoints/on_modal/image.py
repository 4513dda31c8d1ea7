"""The recipe of the containers' image: the tested versions of the dependencies, and the four layers."""

from __future__ import annotations

import re
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path
from typing import Final

import modal

LAYERS: Final = ("domain", "application", "adapters", "entrypoints")
_CONSTRAINTS: Final = Path(__file__).parents[2] / "constraints.txt"
_PROJECT: Final = Path(__file__).parents[2] / "pyproject.toml"
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


def training_image() -> modal.Image:
    """Return the image; in a container, where it is built already, a bare one."""
    image = modal.Image.debian_slim(python_version="3.11")
    if not modal.is_local():
        return image
    return (
        image.uv_pip_install(*pinned_requirements())
        .env(
            {
                "HF_HOME": "/cache/huggingface",
                "MOE_ROUTER_CACHE": "/cache/moe-router",
                "TOKENIZERS_PARALLELISM": "false",
            }
        )
        .add_local_python_source(*LAYERS)
    )


def pinned_requirements() -> list[str]:
    """Return the project's dependencies as ``name==version``.

    Versions are those of the constraints file, which the tests run with; where there is none (an installed package),
    those that are installed here. Local versions such as ``2.13.0+cpu`` lose their suffix: the GPU build is wanted.
    """
    pins = _constraints() if _CONSTRAINTS.is_file() else {}
    names = sorted(_dependencies(), key=str.lower)
    return [f"{name}=={(pins.get(_canonical(name)) or version(name)).split('+')[0]}" for name in names]


def _constraints() -> dict[str, str]:
    lines = (line.split("#")[0].strip() for line in _CONSTRAINTS.read_text("utf-8").splitlines())
    pairs = (line.split("==") for line in lines if "==" in line)
    return {_canonical(name): pinned for name, pinned in pairs}


def _dependencies() -> list[str]:
    if _PROJECT.is_file():
        import tomllib

        listed: list[str] = tomllib.loads(_PROJECT.read_text("utf-8"))["project"]["dependencies"]
    else:
        try:
            listed = [line for line in requires("moe-lora-router") or [] if "extra ==" not in line]
        except PackageNotFoundError:
            listed = []
    found = (_NAME.match(line) for line in listed)
    return [match.group() for match in found if match]


def _canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()
