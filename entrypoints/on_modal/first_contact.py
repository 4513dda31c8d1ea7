"""A first contact within seconds for Modal's own command line, which by itself waits minutes for a dead network.

``modal run``, ``modal serve`` and ``modal deploy`` import the app's module before they call Modal. That moment is
used: the server is asked for a sign of life, with the limits that ``moe-router … --backend modal`` has. The client
that this opens is the one that the command then uses.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from typing import TypeVar

import click

T = TypeVar("T")

_HELP = frozenset({"-h", "--help"})


def require_modal_to_answer() -> None:
    """Exit with one line on stderr and status 5 when this is Modal's command line and Modal does not answer it.

    Contacts nothing in any other process, and nothing when only help is asked for.
    """
    if not _in_modals_command_line() or _HELP.intersection(sys.argv):
        return
    from adapters.modal_cloud.modal_connection import ModalConnection
    from entrypoints.settings import Settings

    stated(lambda: ModalConnection(deadline=Settings.read(os.environ).modal_timeout).open())


def modal_run_option(name: str) -> str | None:
    """Return what Modal's command line was given last for an option of the app's own; None when it was not."""
    words, given = iter(sys.argv[1:] if _in_modals_command_line() else []), None
    for word in words:
        option, equals, value = word.partition("=")
        if option == name:
            given = value if equals else next(words, given)
    return given


def stated(read: Callable[[], T]) -> T:
    """Return what `read` returns; a user's error in Modal's command line is one line on stderr and its exit code."""
    from domain.errors import MoeRouterError
    from entrypoints.exit_codes import exit_code

    try:
        return read()
    except MoeRouterError as error:
        if not _in_modals_command_line():
            raise
        click.echo(f"moe-router: {error}", err=True)
        sys.exit(exit_code(error))


def _in_modals_command_line() -> bool:
    context = click.get_current_context(silent=True)
    return context is not None and type(context.command).__module__.partition(".")[0] == "modal"
