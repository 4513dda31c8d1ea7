"""The options that name an upstream, shared by the commands that ask one."""

from __future__ import annotations

from typing import Final

import click

from domain.errors import UsageError
from entrypoints.cli.options import Decorator


def secret(ctx: click.Context, param: click.Parameter, variable: str | None) -> str | None:
    """Return what the named environment variable holds; raises UsageError when that is nothing."""
    if variable is None:
        return None
    if not (found := ctx.obj.environment.get(variable)):
        raise UsageError(f"the environment variable {variable} is not set", where=param.opts[0])
    return str(found)


def _address(_ctx: click.Context, _param: click.Parameter, url: str | None) -> str | None:
    if url is not None and not url.startswith(("http://", "https://")):
        raise UsageError(f"--upstream {url!r} is not an address", hint="http://HOST:PORT")
    return url


def upstream_option(help_text: str) -> Decorator:
    """Return ``--upstream``, an address."""
    return click.option("--upstream", metavar="URL", callback=_address, help=help_text)


UPSTREAM_OPTIONS: Final = (
    click.option("--upstream-model", metavar="TEMPLATE", help="An adapter's name there, with {adapter} and {base}."),
    click.option("--upstream-base", metavar="NAME", help="The base model's name there; else it is looked up."),
    click.option(
        "--upstream-key-env", "upstream_key", metavar="NAME", callback=secret, help="Variable with the key it wants."
    ),
)
"""How adapters and the base model are called there, and the key."""
