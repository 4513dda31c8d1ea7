"""What ``modal run -m entrypoints.modal_app`` does on the caller's side: the command for its mode."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any, Final

import click
from attrs import field, mutable

from adapters.modal_cloud.modal_jobs import Jobs, RunningAppJobs
from domain.errors import UsageError
from entrypoints.backend import Where
from entrypoints.bootstrap import Application
from entrypoints.cli import main
from entrypoints.exit_codes import exit_code
from entrypoints.on_modal.options import call_options

COMMANDS: Final = {"train": "train", "eval": "evaluate", "infer": "infer"}
"""The command behind each mode."""


@mutable(slots=False)
class RunningApplication(Application):
    """The composition root when the app on Modal is running already, started by Modal's own command line.

    Attributes:
        functions: the app's functions by name.
    """

    functions: Mapping[str, Any] = field(kw_only=True)

    def modal_jobs(self, where: Where) -> Jobs:
        """Calls of the running app."""
        return RunningAppJobs(self.functions, self.environment, call_options(where))


def run_mode(functions: Mapping[str, Any], app_id: str | None, mode: str, **flags: object) -> None:
    """Run the command for a mode, with the flags that are not None.

    Its log is found by `app_id`, since an app that is not deployed has no name. A user's error is one line on stderr
    and its exit code, and so is a flag that the command does not have.
    """
    if mode not in COMMANDS:
        error = UsageError(f"--mode must be one of: {', '.join(COMMANDS)}; not {mode!r}")
        click.echo(f"moe-router: {error}", err=True)
        raise SystemExit(exit_code(error))
    if app_id is not None:
        click.echo(f"The log of this run: modal app logs {app_id}", err=True)
    given = {f"--{name.replace('_', '-')}": str(value) for name, value in flags.items() if value is not None}
    words = [word for pair in given.items() for word in pair]
    try:
        main(
            [COMMANDS[mode], "--backend", "modal", *words], RunningApplication(dict(os.environ), functions=functions)
        )
    except SystemExit as done:
        if done.code:
            raise  # else Modal's command line has something left to do
