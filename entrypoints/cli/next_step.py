"""The line with which a command ends: what people usually do next."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping
from pathlib import Path

import click

from entrypoints.backend import Where


def read_by_a_program() -> bool:
    """Return whether the command that runs prints JSON."""
    context = click.get_current_context(silent=True)
    return bool(context and context.params.get("as_json"))


def next_step(*words: object) -> None:
    """Say on stderr which command usually follows; nothing where the result is read by a program.

    Args:
        words: the command and its options.
    """
    if not read_by_a_program():
        named = (re.sub(r"^hf:/(?!/)", "hf://", str(word)) for word in words)  # a path has lost the second slash
        click.echo(f"Next: {shlex.join(['moe-router', *named])}", err=True)


def option(flag: str, value: object, default: object = None) -> tuple[object, ...]:
    """Return a flag with its value; nothing when that is the default."""
    return () if value is None or value == default else (flag, value)


def lora_words(folder: Path | None, by_name: Mapping[str, Path]) -> tuple[object, ...]:
    """Return the options that name LoRA adapters; a placeholder when there are none."""
    named = (word for name, path in by_name.items() for word in ("--lora", f"{name}={path}"))
    return (*option("--lora-dir", folder or (None if by_name else "LORAS")), *named)


def place(where: Where) -> tuple[object, ...]:
    """Return the option that lets the next command run in the same place."""
    return option("--backend", where.name, "local")
