"""``moe-router infer``: answer prompts with the LoRA adapter that the router picks."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from application.training.data_paths import router_path
from entrypoints.bootstrap import Application
from entrypoints.cli.backend_options import check_backend
from entrypoints.cli.lora_options import lora_folders, lora_options

_FILE = click.Path(path_type=Path)


@click.command("infer")
@click.option("--prompt", "prompts", multiple=True, help="A prompt to answer; repeatable.")
@click.option("--input", "source", type=_FILE, help="JSONL file of prompts: id, prompt (or messages), images.")
@click.option("--output", type=_FILE, help="JSONL file for the answers to --input; an interrupted run goes on there.")
@click.option("--router", type=_FILE, help="Router file.  [env: ROUTER_OUT; default: router-head.safetensors]")
@lora_options
@click.option("--base-model", help="Hub id or folder; else BASE_MODEL_ID, else the one the router was trained on.")
@click.option("--max-new-tokens", default=64, help="An answer ends after this many tokens at the latest.")
@click.option("--temperature", default=0.0, help="0 takes the most likely token; above 0 draws.")
@click.option("--seed", default=42, help="Seed of the draws.")
@click.option("--stop", multiple=True, help="An answer ends before this string; repeatable.")
@click.option("--image", "images", multiple=True, type=_FILE, help="An image for the one --prompt; repeatable.")
@click.option(
    "--fallback",
    metavar="base|NAME|error",
    help="Who answers when the router abstains or fails, or its LoRA adapter was not given. Without it the base "
    "model answers where the router abstains, and all else is an error.",
)
@click.option("--disable", multiple=True, metavar="NAME", help="An adapter that is not to answer; repeatable.")
@click.option("--route-only", is_flag=True, help="Print the decisions; load no LoRA adapter and answer nothing.")
@click.option("--backend", type=click.Choice(["local", "modal"]), default="local", help="Where the model runs.")
@click.option("--gpu", metavar="KIND", help="Kind of GPU with --backend modal, for example L4.")
@click.option("--hf-secret", metavar="NAME", help="With --backend modal: secret with HF_TOKEN, for gated models.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@click.pass_obj
def command(app: Application, /, **options: Any) -> None:
    """Answer prompts with the LoRA adapter that the router picks.

    The router reads the base model's own states; one copy of the base model routes and answers. Every LoRA adapter
    is checked first (as `doctor` does), so that no answer silently comes from the bare base model.

    With --backend modal, --router, --lora and --lora-dir name paths of the containers (/output, /checkpoints); LoRA
    adapters are looked for in /checkpoints. --input and --output stay here.
    """
    _check(options)
    path = router_path(options["router"], app.environment)
    with app.interruption(hint=_after_a_signal(options)):
        if options["backend"] == "modal":
            _on_modal(app, options)
        elif options["route_only"]:
            _route(app, path, options)
        else:
            _answer(app, path, options)


def _after_a_signal(options: dict[str, Any]) -> str | None:
    if not options["output"]:
        return None
    return f"finished answers are kept in {options['output']}; run the same command to go on"


def _on_modal(app: Application, options: dict[str, Any]) -> None:
    """Route or answer in a container; its paths are meant, but for those of prompts and answers."""
    from attrs import evolve

    from adapters.modal_cloud.modal_requests import RemoteQuestions
    from domain.answers import GenerationOptions
    from domain.chats import routing_text
    from entrypoints.cli.answer_report import print_report
    from entrypoints.cli.answer_setting import setting
    from entrypoints.modal_places import remote_base_model, remote_environment

    path, prompts = router_path(options["router"], remote_environment(app.environment)), _prompts(options)
    if any(prompt.images for prompt in prompts):
        _refuse("images cannot be sent to Modal", "answer prompts with images here, with --backend local")
    generation = GenerationOptions(
        options["max_new_tokens"], options["temperature"], options["seed"], tuple(options["stop"])
    )
    questions = RemoteQuestions(
        prompts,
        path,
        generation,
        remote_base_model(options["base_model"], app.environment),
        options["lora_dir"],
        lora_folders(options["loras"], None, here=False),
        options["fallback"],
        tuple(options["disable"]),
        options["route_only"],
    )
    remote = {"gpu": options["gpu"], "hf_secret": options["hf_secret"]}
    if options["output"]:
        report = app.answer_file(
            lambda: app.modal_answering(questions, **remote),
            options["source"],
            options["output"],
            generation,
            setting("modal", evolve(questions, prompts=())),
        )
        print_report(report, options["output"], as_json=options["as_json"])
        return
    found = app.modal_inference(**remote)(questions)
    if options["route_only"]:
        texts = [routing_text(prompt.chat) for prompt in prompts]
        _print_decisions(path, texts, found.decisions, as_json=options["as_json"])
    else:
        _print_answers(path, prompts, found.answers, as_json=options["as_json"])


def _check(options: dict[str, Any]) -> None:
    check_backend(options["backend"], options["gpu"], options["hf_secret"])
    prompts, source, images = options["prompts"], options["source"], options["images"]
    if bool(prompts) == bool(source):
        _refuse("give prompts with --prompt, or a file of them with --input")
    if options["output"] and not source:
        _refuse("--output goes with --input")
    if images and len(prompts) != 1:
        _refuse("--image goes with exactly one --prompt", "rows of --input may have 'images' of their own")
    if options["route_only"] and options["output"]:
        _refuse("--route-only writes no answers", "leave --output out; --json prints the decisions")


def _refuse(what: str, hint: str | None = None) -> None:
    from domain.errors import UsageError

    raise UsageError(what, hint=hint)


def _route(app: Application, path: Path, options: dict[str, Any]) -> None:
    from application.routing.route_prompts import RouteRequest
    from domain.chats import routing_text

    prompts, router = _prompts(options), app.routers.load(path)
    route = app.route_prompts(router, base_model=options["base_model"])
    texts = tuple(routing_text(prompt.chat, router.card.turn) for prompt in prompts)
    decisions = route(RouteRequest(texts, disabled=frozenset(options["disable"])))
    _print_decisions(path, texts, decisions, as_json=options["as_json"])


def _print_decisions(path: Path, texts: Sequence[str], decisions: Sequence[Any], *, as_json: bool) -> None:
    from adapters.lora.answer_json import decision_object
    from entrypoints.cli.answer_report import print_json, selected_line

    if as_json:
        rows = [{"prompt": text, **decision_object(each)} for text, each in zip(texts, decisions, strict=True)]
        print_json({"router": str(path), "decisions": rows})
        return
    for text, decision in zip(texts, decisions, strict=True):
        if len(texts) > 1:
            click.echo(f"[prompt] {text}")
        click.echo(selected_line(decision))


def _answer(app: Application, path: Path, options: dict[str, Any]) -> None:
    from application.answering.answer_prompts import AnswerPrompts, AnswerRequest
    from domain.answers import AnswerPolicy, Fallback, GenerationOptions
    from entrypoints.cli.answer_report import print_report
    from entrypoints.cli.answer_setting import lora_contents, setting

    generation = GenerationOptions(
        options["max_new_tokens"], options["temperature"], options["seed"], tuple(options["stop"])
    )
    policy = AnswerPolicy(Fallback.parse(options["fallback"]), frozenset(options["disable"]))
    folders = lora_folders(options["loras"], options["lora_dir"])
    prompts = None if options["output"] else _prompts(options)
    router = app.routers.load(path)
    for name in lora_folders(options["loras"], None):
        if name != policy.fallback.adapter:
            router.card.labels.label_of(name)  # a mistyped --lora must not go unnoticed

    def answering() -> AnswerPrompts:
        return app.answer_prompts(router, folders, options["base_model"], policy=policy)

    if prompts is None:
        used = (router.sha256, lora_contents(folders), generation, options["fallback"], sorted(policy.disabled))
        report = app.answer_file(answering, options["source"], options["output"], generation, setting(*used), policy)
        print_report(report, options["output"], as_json=options["as_json"])
        return
    answers = answering()(AnswerRequest(prompts, generation, policy))
    _print_answers(path, prompts, answers, as_json=options["as_json"])


def _print_answers(path: Path, prompts: Sequence[Any], answers: Sequence[Any], *, as_json: bool) -> None:
    from adapters.lora.answer_json import answer_object
    from domain.chats import routing_text
    from entrypoints.cli.answer_report import print_json, response_lines

    texts = [routing_text(prompt.chat) for prompt in prompts]
    if as_json:
        rows = [{"prompt": text, **answer_object(each)} for text, each in zip(texts, answers, strict=True)]
        print_json({"router": str(path), "answers": rows})
        return
    for text, answer in zip(texts, answers, strict=True):
        if len(texts) > 1:
            click.echo(f"[prompt] {text}")
        for line in response_lines(answer):
            click.echo(line)


def _prompts(options: dict[str, Any]) -> tuple[Any, ...]:
    from adapters.datasets.prompt_files import PromptFileReader
    from application.answering.answers import Prompt
    from domain.chats import as_chat, routing_text

    if options["source"]:
        return tuple(row.prompt for row in PromptFileReader().read_prompt_rows(options["source"]))
    prompts = tuple(Prompt(as_chat(text), tuple(options["images"])) for text in options["prompts"])
    for prompt in prompts:
        routing_text(prompt.chat)  # an empty prompt is an error before any model loads
    return prompts
