"""``moe-router infer``: answer prompts with the LoRA adapter that the router picks."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click
from attrs import evolve

from domain.answers import GenerationOptions, Prompt
from domain.errors import DataRejectedError, UsageError
from domain.routing import OtherLimits
from entrypoints.backend import Backend, Questions, Where
from entrypoints.bootstrap import Application
from entrypoints.cli.lora_options import lora_options
from entrypoints.cli.next_step import lora_words, next_step, option
from entrypoints.cli.options import (
    PATH,
    backend_options,
    base_model_option,
    generation_options,
    json_option,
    limit_options,
    max_batch_option,
    router_option,
    shards_option,
)
from entrypoints.reports.printed_answers import DecisionStream, PrintedAnswers
from entrypoints.reports.printing import print_json

if TYPE_CHECKING:
    from application.answering.answer_file import AnswerFileReport
    from application.ports.answering import AnswerStream

CHUNK = 64
"""Prompts that are answered together, and shown, at a time when their answers are printed."""


@click.command("infer")
@click.option("--prompt", "texts", multiple=True, metavar="TEXT", help="A prompt to answer; repeatable.")
@click.option(
    "--input", "source", type=PATH, help="JSONL file of prompts: id, prompt (or messages), images; - reads stdin."
)
@click.option(
    "--output",
    type=PATH,
    help="JSONL file for the answers to --input, as they are ready (id says whose); an interrupted run goes on.",
)
@router_option
@lora_options
@base_model_option("the router's own")
@generation_options
@click.option("--image", "images", multiple=True, type=PATH, help="An image for the one --prompt; repeatable.")
@click.option(
    "--fallback",
    metavar="base|NAME|error",
    help="Who answers when the router abstains or fails, or its LoRA adapter was not given. Without it the base "
    "model answers where the router abstains, and all else is an error.",
)
@click.option(
    "--disable", "disabled", multiple=True, metavar="NAME", help="An adapter that is not to answer; repeatable."
)
@limit_options
@click.option("--allow-errors", is_flag=True, help="With --input: end well although rows could not be answered.")
@click.option("--route-only", is_flag=True, help="Print the decisions; load no LoRA adapter and answer nothing.")
@backend_options(max_batch_option, shards_option)
@json_option
@click.pass_obj
def command(
    app: Application,
    *,
    texts: tuple[str, ...],
    source: Path | None,
    output: Path | None,
    router: Path | None,
    loras: dict[str, Path],
    lora_dir: Path | None,
    base_model: str | None,
    generation: GenerationOptions,
    images: tuple[Path, ...],
    fallback: str | None,
    disabled: tuple[str, ...],
    limits: OtherLimits,
    allow_errors: bool,
    route_only: bool,
    where: Where,
    as_json: bool,
) -> None:
    """Answer prompts with the LoRA adapter that the router picks.

    The router reads the base model's own states; one copy of the base model routes and answers. Every LoRA adapter
    is checked first (as `doctor` does), so that no answer silently comes from the bare base model.

    Of --input no more is held than is answered at a time, and what comes through a pipe is answered while it is open.
    A row without an answer is shown with the reason, among the answers and at the end; all others are answered.

    With --backend modal, --router, --lora and --lora-dir name paths of the containers (/output, /checkpoints); LoRA
    adapters are looked for in /checkpoints. --input and --output stay here. --json prints one object per prompt and
    line; with --output it prints what was done.
    """
    _check(texts, source, output, images, route_only)
    backend = app.backend(where)
    questions = Questions(
        router=router or backend.places.router,
        options=generation,
        base_model=base_model,
        lora_dir=lora_dir,
        loras=loras,
        fallback=fallback,
        disabled=disabled,
        limits=limits,
    )
    hint = f"finished answers are kept in {output}; run the same command to go on" if output else None
    with app.interruption(hint=hint):
        if source is None:
            questions = evolve(questions, prompts=_prompts(texts, images))
            (_route if route_only else _answer)(backend, questions, as_json=as_json)
        else:
            report = _answer_rows(app, backend, questions, source, output, PrintedAnswers(as_json, route_only))
            _tell(report, source, output, allow_errors=allow_errors, as_json=as_json)
    if backend.is_here:
        next_step("serve", *option("--router", router), *lora_words(lora_dir, loras))


def _check(
    texts: tuple[str, ...], source: Path | None, output: Path | None, images: tuple[Path, ...], route_only: bool
) -> None:
    if bool(texts) == bool(source):
        raise UsageError("give prompts with --prompt, or a file of them with --input")
    if output and not source:
        raise UsageError("--output goes with --input")
    if images and len(texts) != 1:
        raise UsageError(
            "--image goes with exactly one --prompt", hint="rows of --input may have 'images' of their own"
        )
    if route_only and output:
        raise UsageError("--route-only writes no answers", hint="leave --output out; --json prints the decisions")


def _prompts(texts: tuple[str, ...], images: tuple[Path, ...]) -> tuple[Prompt, ...]:
    from domain.chats import as_chat, routing_text

    prompts = tuple(Prompt(as_chat(text), images) for text in texts)
    for prompt in prompts:
        routing_text(prompt.chat)  # an empty prompt is an error before any model loads
    return prompts


def _route(backend: Backend, questions: Questions, *, as_json: bool) -> None:
    from entrypoints.reports.answers import decision_line, decision_text

    many = len(questions.prompts) > 1
    for text, decision in backend.deciding(questions)(questions.prompts):
        click.echo(decision_line(text, decision) if as_json else decision_text(text if many else None, decision))


def _answer(backend: Backend, questions: Questions, *, as_json: bool) -> None:
    from application.ports.answering import AnswerRequest
    from domain.chats import routing_text
    from entrypoints.reports.answers import answer_line, answer_text

    backend.check(questions)
    answers = backend.answering(questions)(AnswerRequest(questions.prompts, questions.options, questions.policy))
    many = len(answers) > 1
    for prompt, answer in zip(questions.prompts, answers, strict=True):
        text = routing_text(prompt.chat)
        click.echo(answer_line(text, answer) if as_json else answer_text(text if many else None, answer))


def _answer_rows(
    app: Application,
    backend: Backend,
    questions: Questions,
    source: Path,
    output: Path | None,
    printed: PrintedAnswers,
) -> AnswerFileReport:
    """Answer a file into `output`, or print the answers where there is none."""
    from application.answering.answer_file import AnswerFileRequest
    from application.answering.answer_prompts import GROUP

    backend.check(questions)
    log = printed if output is None else app.answer_log(output, backend.setting(questions))
    group = max(backend.least_at_a_time, CHUNK if output is None else GROUP)

    def answering() -> AnswerStream:
        return DecisionStream(backend.deciding(questions)) if printed.decisions else backend.answering(questions)

    asked = AnswerFileRequest(source, questions.options, questions.policy, group)
    return app.answer_file(answering, log)(asked)


def _tell(report: AnswerFileReport, source: Path, output: Path | None, *, allow_errors: bool, as_json: bool) -> None:
    """Print what was done; raises DataRejectedError for rows without an answer unless they are allowed."""
    from entrypoints.reports.answers import failure_lines, file_as_text, file_as_values

    if output is not None and as_json:
        print_json(file_as_values(report, output))
    elif output is not None:
        click.echo(file_as_text(report, output))
    for line in failure_lines(report, source):
        click.echo(line, err=True)
    if report.n_failed and not allow_errors:
        raise DataRejectedError(
            f"{report.n_failed} of {report.total} prompts have no answer; all others have",
            where=source,
            hint="the lines above say why; mend them and run again, or let it pass with --allow-errors",
        )
