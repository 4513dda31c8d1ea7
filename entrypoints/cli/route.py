"""``moe-router route``: decide which adapter should answer, and explain why."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from time import perf_counter

import click
from attrs import evolve

from application.routing.route_prompts import RoutePrompts, RouteRequest
from domain.chats import as_chat, routing_text
from domain.errors import UsageError
from domain.routing import OtherLimits, RoutingDecision
from domain.turns import TurnChoice
from entrypoints.bootstrap import Application
from entrypoints.cli.as_they_come import as_they_come, in_chunks
from entrypoints.cli.next_step import next_step, option
from entrypoints.cli.options import base_model_option, limit_options, router_option
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
    as_json: bool,
) -> None:
    """Decide which adapter should answer each prompt, and explain why. Loads no LoRA adapter.

    Prompts come from --prompt, from a file (JSON lines, or one prompt a line), or from standard input. What comes
    through a pipe is decided line by line, while the pipe is still open.
    """
    _check(prompts, source)
    path = router or HERE.router
    loaded = app.routers.load(path)
    wanted = _prompts(app, prompts, source, loaded.card.turn)
    for name in disabled:
        loaded.card.labels.label_of(name)
    route = app.route_prompts(loaded, base_model=app.read_with(path, base_model))
    show = decision_as_json if as_json else decision_as_text
    asked = RouteRequest((), nearest, frozenset(disabled), limits.over(loaded.card.thresholds))
    for prompt, decision, milliseconds in _routed(route, wanted, asked):
        click.echo(show(prompt, decision, loaded.sha256 or "", milliseconds))
    next_step("infer", *option("--router", router), "--lora-dir", "LORAS", "--prompt", "…")


def _check(prompts: tuple[str, ...], source: Path | None) -> None:
    if prompts and source is not None:
        raise UsageError("--prompt and --input exclude each other")
    if any(not prompt.strip() for prompt in prompts):
        raise UsageError("--prompt is empty")
    if not prompts and source is None and sys.stdin.isatty():
        raise UsageError("nothing to route", hint="give --prompt TEXT or --input FILE, or pipe prompts in")


def _prompts(
    app: Application, prompts: tuple[str, ...], source: Path | None, turn: TurnChoice
) -> Iterator[list[str]]:
    """Return the prompts in lists; those of a pipe as they come, those of a file after all of them were checked."""
    if prompts:
        return in_chunks([routing_text(as_chat(prompt), turn) for prompt in prompts], CHUNK)
    path = source or Path("-")
    lines = app.prompt_reader.stream_prompts(path, turn)
    if not path.is_file():
        return as_they_come(lines, CHUNK)
    for _ in lines:
        pass
    return in_chunks(app.prompt_reader.stream_prompts(path, turn), CHUNK)


def _routed(
    route: RoutePrompts, prompts: Iterator[list[str]], asked: RouteRequest
) -> Iterator[tuple[str, RoutingDecision, float]]:
    """Yield each prompt with its decision and the milliseconds it took (its share of its batch's time)."""
    for chunk in prompts:
        begun = perf_counter()
        decisions = route(evolve(asked, prompts=tuple(chunk)))
        milliseconds = (perf_counter() - begun) * 1000 / len(chunk)
        yield from ((prompt, decision, milliseconds) for prompt, decision in zip(chunk, decisions, strict=True))
