"""``moe-router modal-check``: what can be known about Modal without contacting it."""

from __future__ import annotations

import click
from attrs import asdict

from entrypoints.bootstrap import Application
from entrypoints.cli.options import json_option
from entrypoints.reports.printing import print_json


@click.command("modal-check")
@json_option
@click.pass_obj
def command(app: Application, *, as_json: bool) -> None:
    """Check what can be checked about Modal without an account, and print a list for the first run with one.

    Contacts nothing. Exit code 1 when something but the credentials is wrong.
    """
    from entrypoints.on_modal.checks import FIRST_CONTACT, check

    found = check(app.environment)
    if as_json:
        steps = [{"command": line, "look_for": look} for line, look in FIRST_CONTACT]
        print_json({"checks": [asdict(each) for each in found], "first_contact": steps})
    else:
        for each in found:
            click.echo(f"{'✗' if each.problem else '✓'} {each.what}: {each.problem or each.detail}")
        click.echo("\nFirst contact (ten minutes, under a dollar); stop at the first line that differs:")
        for number, (line, look) in enumerate(FIRST_CONTACT, start=1):
            click.echo(f"{number:3}. {line}\n       → {look}")
    raise SystemExit(int(any(each.problem and each.what != "credentials" for each in found)))
