"""The options that name LoRA adapters, shared by the commands that take them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from domain.errors import MissingFileError, UsageError
from domain.labels import ADAPTER_NAME, check_adapter_name

_Command = TypeVar("_Command", bound=Callable[..., Any])
_CONFIG = "adapter_config.json"


def lora_options(command: _Command) -> _Command:
    """Add ``--lora NAME=PATH`` (repeatable, parameter `loras`) and ``--lora-dir`` (parameter `lora_dir`)."""
    one = click.option("--lora", "loras", multiple=True, metavar="NAME=PATH", help="A LoRA adapter; repeatable.")
    many = click.option(
        "--lora-dir",
        type=click.Path(path_type=Path),
        help="A folder with one folder per LoRA adapter, named as the router names it.",
    )
    return one(many(command))


def lora_folders(loras: tuple[str, ...], lora_dir: Path | None, *, here: bool = True) -> dict[str, Path]:
    """Return the LoRA adapters' folders by name; ``--lora`` overrides what lies in ``--lora-dir``.

    `here` tells whether the paths are this machine's, so that they can be looked at.

    Raises:
        UsageError: a value is not NAME=PATH, a name is not allowed or given twice.
        MissingFileError: a folder is not there, or ``--lora-dir`` holds no LoRA adapter.
    """
    folders = {} if lora_dir is None else _in(lora_dir)
    given: dict[str, Path] = {}
    for text in loras:
        name, equals, path = text.partition("=")
        if not equals or not path:
            raise UsageError(f"--lora {text!r} is not NAME=PATH", hint="for example --lora calendar=loras/calendar")
        if check_adapter_name(name) in given:
            raise UsageError(f"--lora names {name!r} twice")
        given[name] = Path(path)
    for name, folder in given.items():
        if here and not folder.exists():
            raise MissingFileError(
                "no such folder", where=folder, hint=f"the LoRA adapter that --lora {name}=… names"
            )
    return {**folders, **given}


def _in(folder: Path) -> dict[str, Path]:
    if not folder.is_dir():
        raise MissingFileError("no such folder", where=folder, hint="--lora-dir takes a folder of folders")
    found = {path.name: path for path in sorted(folder.iterdir()) if _is_candidate(path)}
    if not found:
        hint = "this looks like one adapter: --lora NAME=PATH" if (folder / _CONFIG).exists() else None
        raise MissingFileError("holds no folder of a LoRA adapter", where=folder, hint=hint)
    return found


def _is_candidate(path: Path) -> bool:
    """Whether a folder is meant as a LoRA adapter, a damaged one included: the check is to name it."""
    return path.is_dir() and ADAPTER_NAME.fullmatch(path.name) is not None and any(path.glob("adapter_*"))
