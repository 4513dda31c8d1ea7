"""``moe-router route``: decide which adapter should answer, and explain why."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from time import perf_counter

import click
from attrs import evolve

from adapters.datasets.as_they_come import in_chunks
from adapters.datasets.prompt_files import PromptFileReader, stdin_has_ended
from application.ports import TrainedRouter
from application.ports.answer_files import PromptRow
from application.routing.route_prompts import RoutePrompts, RouteRequest
from domain.answers import Prompt
from domain.chats import as_chat, routing_text
from domain.errors import DataRejectedError, UsageError
from domain.routing import OtherLimits
from entrypoints.bootstrap import Application
from entrypoints.cli.next_step import next_step, option
from entrypoints.cli.options import base_model_option, limit_options, router_option
from entrypoints.reports.answers import error_line, error_text
from entrypoints.reports.decisions import decision_as_json, decision_as_text
from entrypoints.settings import HERE

CHUNK = 64
"""Prompts that are routed, and shown, at a time."""


@click.command("route")
@click.option("--prompt", "prompts", metavar="TEXT", multiple=True, help="A prompt to route; may be repeated.")
@click.option(
    "--input", "source", type=click.Path(path_type=Path), metavar="FILE", help="File of prompts; - reads stdin."
)
@router_option
@base_model_option("the router's own")
@click.option(
    "--nearest", default=3, metavar="K", help="Show so many of the nearest prompts that the router remembers."
)
@click.option("--disable", "disabled", metavar="NAME", multiple=True, help="An adapter that must not be chosen.")
@limit_options
@click.option("--allow-errors", is_flag=True, help="End well although rows could not be routed.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object per prompt and line.")
@click.pass_obj
def command(
    app: Application,
    prompts: tuple[str, ...],
    source: Path | None,
    router: Path | None,
    base_model: str | None,
    nearest: int,
    disabled: tuple[str, ...],
    limits: OtherLimits,
    allow_errors: bool,
    as_json: bool,
) -> None:
    """Decide which adapter should answer each prompt, and explain why. Loads no LoRA adapter.

    Prompts come from --prompt, from a file (JSON lines, or one prompt a line), or from standard input. What comes
    through a pipe is decided line by line, while the pipe is still open. A row that is not a prompt is shown with the
    reason; all others are decided.
    """
    _check(prompts, source)
    wanted = _prompts(prompts, source or Path("-"))
    path = router or HERE.router
    loaded = app.routers.load(path)
    for name in disabled:
        loaded.card.labels.label_of(name)
    route = app.route_prompts(loaded, base_model=app.read_with(path, base_model))
    asked = RouteRequest((), nearest, frozenset(disabled), limits.over(loaded.card.thresholds))
    total = failed = 0
    for rows in wanted:
        total += len(rows)
        failed += sum(row.problem is not None for row in rows)
        for shown in _shown(route, rows, asked, loaded, source or Path("-"), as_json=as_json):
            click.echo(shown)
    if failed and not allow_errors:
        raise DataRejectedError(
            f"{failed} of {total} prompts have no decision; all others have",
            where=source,
            hint="the lines above say why; mend them and run again, or let it pass with --allow-errors",
        )
    next_step("infer", *option("--router", router), "--lora-dir", "LORAS", "--prompt", "…")


def _check(prompts: tuple[str, ...], source: Path | None) -> None:
    if prompts and source is not None:
        raise UsageError("--prompt and --input exclude each other")
    if any(not prompt.strip() for prompt in prompts):
        raise UsageError("--prompt is empty")
    if not prompts and source is None and (stdin_has_ended() or sys.stdin.isatty()):
        raise UsageError("nothing to route", hint="give --prompt TEXT or --input FILE, or pipe prompts in")


def _prompts(prompts: tuple[str, ...], path: Path) -> Iterator[list[PromptRow]]:
    """Return the prompts in lists; those of a pipe as they come."""
    if prompts:
        chats = [as_chat(prompt) for prompt in prompts]
        for chat in chats:
            routing_text(chat)
        return in_chunks([PromptRow(str(n), Prompt(chat), n) for n, chat in enumerate(chats, start=1)], CHUNK)
    reader = PromptFileReader()
    if reader.can_be_read_again(path):
        reader.require_a_prompt(path)
    return reader.group_prompt_rows(path, CHUNK)


def _shown(
    route: RoutePrompts,
    rows: list[PromptRow],
    asked: RouteRequest,
    router: TrainedRouter,
    path: Path,
    *,
    as_json: bool,
) -> Iterator[str]:
    """Yield what is printed of each row: its decision with its share of the milliseconds, or why it has none."""
    good = [row for row in rows if row.problem is None]
    begun = perf_counter()
    texts = tuple(routing_text(row.prompt.chat, router.card.turn) for row in good)
    decisions = iter(route(evolve(asked, prompts=texts)) if good else ())
    milliseconds = (perf_counter() - begun) * 1000 / max(len(good), 1)
    routed = zip(texts, decisions, strict=True)
    version, show_error = router.sha256 or "", error_line if as_json else error_text
    for row in rows:
        if row.problem is None:
            text, decision = next(routed)
            if as_json:
                yield decision_as_json(row.id, text, decision, version, milliseconds)
            else:
                yield decision_as_text(text, decision, version, milliseconds)
        else:
            click.echo(f"{path}:{row.line}: id {row.id!r}: {row.problem.what}", err=True)
            yield show_error(row.id, row.line, row.problem)
