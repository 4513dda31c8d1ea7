"""What the README says is true: it opens with the two commands, and the options that it shows exist."""

import re
from importlib import import_module
from pathlib import Path

import click
import pytest

from entrypoints.cli import COMMANDS

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text("utf8")


def test_it_opens_with_the_two_commands():
    (first,) = re.findall(r"\A# .*?```sh\n(.*?)```", README, re.DOTALL)
    assert [line.split("#")[0].strip() for line in first.splitlines()] == ["make demo", "make test"]


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_is_named(name):
    assert re.search(rf"(`|moe-router |make ){name}\b", README)


def shown_options() -> list[tuple[str, str]]:
    """Return every (command, option) that a `moe-router …` line in a code block of the README or docs/ uses."""
    found = []
    pages = "\n".join([README, *(page.read_text("utf8") for page in sorted((ROOT / "docs").glob("*.md")))])
    for block in re.findall(r"```sh\n(.*?)```", pages, re.DOTALL):
        for line in block.replace("\\\n", " ").splitlines():
            if match := re.match(r"(?:.*\| )?moe-router ([a-z-]+)(.*?)(?: +#.*)?$", line):
                found += [(match[1], option) for option in re.findall(r" (--[a-z-]+)", match[2])]
    return found


@pytest.mark.parametrize(("name", "option"), sorted(set(shown_options())))
def test_every_option_that_is_shown_exists(name, option):
    command = import_module(f"entrypoints.cli.{COMMANDS[name][0]}").command
    assert option in {flag for one in command.params if isinstance(one, click.Option) for flag in one.opts}
