"""``moe-router completion``: print the completion script of a shell."""

from __future__ import annotations

from typing import Final

import click
from click.shell_completion import get_completion_class

PROGRAM: Final = "moe-router"
COMPLETE: Final = "_MOE_ROUTER_COMPLETE"
"""The environment variable in which a shell's script asks for completions."""


@click.command("completion")
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def command(ctx: click.Context, shell: str) -> None:
    """Print the script that lets a shell complete commands, options and file names.

    \b
    bash: moe-router completion bash > ~/.local/share/bash-completion/completions/moe-router
    zsh:  moe-router completion zsh > "${fpath[1]}/_moe-router"
    fish: moe-router completion fish > ~/.config/fish/completions/moe-router.fish
    """
    made = get_completion_class(shell)
    assert made is not None  # click knows all three
    complete = made(ctx.find_root().command, {}, PROGRAM, COMPLETE)
    click.echo(complete.source_template % complete.source_vars())
