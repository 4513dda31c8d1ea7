"""Write docs/commands.md out of every command's ``--help``; with ``--check`` only compare."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import click

from entrypoints.cli import COMMANDS, cli

PAGE = Path(__file__).parents[1] / "commands.md"
HEAD = """# Commands

This page is made by `python docs/scripts/commands.py` out of the commands' own `--help`; a test keeps it so.
Results go to stdout, progress and logs to stderr. Every option can be set in a file, too:
[settings.md](settings.md).

Exit codes: 0 done, 1 failed at run time, 2 wrong usage (a missing file too), 3 data or a file was rejected,
4 training diverged, 5 the remote side failed, 130/143 interrupted, 141 output no longer read.

"""


def page() -> str:
    """Return the page."""
    contents = "".join(f"- [`{name}`](#{name}): {text}\n" for name, (_, text) in COMMANDS.items())
    return HEAD + contents + "".join(_section(name) for name in COMMANDS)


def _section(name: str) -> str:
    context = click.Context(cli, info_name="moe-router", terminal_width=100, max_content_width=100)
    command = cli.get_command(context, name)
    assert command is not None
    command._help_option = None  # click keeps the one of its first context, which need not have had our names for it
    inner = click.Context(
        command, info_name=name, parent=context, terminal_width=100, max_content_width=100, show_default=True
    )
    text = re.sub(r" +$", "", command.get_help(inner), flags=re.MULTILINE)
    return f"\n## {name}\n\n```text\n{text}\n```\n"


def main() -> None:
    """Write the page, or say that it is out of date."""
    if "--check" not in sys.argv:
        PAGE.write_text(page(), "utf-8")
    elif PAGE.read_text("utf-8") != page():
        sys.exit("docs/commands.md is out of date: python docs/scripts/commands.py")


if __name__ == "__main__":
    main()
