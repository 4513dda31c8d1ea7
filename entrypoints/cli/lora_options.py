"""The options that name LoRA adapters, shared by the commands that take them."""

from __future__ import annotations

from pathlib import Path

import click

from domain.errors import UsageError
from domain.labels import check_adapter_name
from entrypoints.cli.options import PATH, Command


def pairs_only(_ctx: click.Context, param: click.Parameter, values: tuple[str, ...]) -> tuple[str, ...]:
    """Return the values; raises UsageError for one that is not NAME=PATH, before words that are left over are met."""
    for text in values:
        name, equals, path = text.partition("=")
        if not (name and equals and path):
            hint = f"for example {param.opts[0]} billing=data/billing"
            raise UsageError(f"{param.opts[0]} {text!r} is not NAME=PATH", hint=hint)
    return values


def folders_by_name(ctx: click.Context, param: click.Parameter, values: tuple[str, ...]) -> dict[str, Path]:
    """Return folders by name; raises UsageError for what is not NAME=PATH, a bad name, and a name given twice."""
    named: dict[str, Path] = {}
    for text in pairs_only(ctx, param, values):
        name, _, path = text.partition("=")
        if check_adapter_name(name) in named:
            raise UsageError(f"{param.opts[0]} names {name!r} twice")
        named[name] = Path(path)
    return named


def lora_options(command: Command) -> Command:
    """Add ``--lora NAME=PATH`` (repeatable; parameter `loras`, folders by name) and ``--lora-dir``."""
    one = click.option(
        "--lora",
        "loras",
        multiple=True,
        metavar="NAME=PATH",
        callback=folders_by_name,
        help="A LoRA adapter; repeatable.",
    )
    many = click.option(
        "--lora-dir", type=PATH, help="A folder with one folder per LoRA adapter, named as the router names it."
    )
    return one(many(command))
