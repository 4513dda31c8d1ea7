"""``moe-router demo``: the whole chain on the embedded base model, from source data to answers."""

from __future__ import annotations

import json
import shlex
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import click

from domain.errors import TargetExistsError, UsageError
from domain.printable import shown
from entrypoints.bootstrap import Application
from entrypoints.terminal import own_drawing
from entrypoints.version import tool_version

if TYPE_CHECKING:
    from rich.console import Console

    from application.answering.answer_prompts import AnswerPrompts
    from domain.answers import Answer

PROMPTS = {
    "calendar": "Click the 28th of January in the calendar, please",
    "claim-window": "Change the deductible on the claim to 750",
    "provider-select": "Choose Dr. Linnea Garrowby in the provider drop-down.",
    None: "Will it rain in the mountains this weekend?",
}
"""One prompt per adapter that is not in the packaged data, and one that belongs to none of them."""


COMPARED = 8
"""Held-out prompts per adapter whose reference answers are scored under everybody."""

TRAIN_SAMPLES = 220
"""Rows per adapter for training and validation; with 100 held-out ones the packaged data is used up."""


@click.command("demo")
@click.option(
    "--output-dir",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="Folder for everything that it makes.  [default: demo/{YYYYMMDD_HHMMSS}]",
)
@click.option(
    "--keep/--no-keep", default=True, help="Keep what it makes; without it, all of it is removed at the end."
)
@click.option(
    "--serve", is_flag=True, help="At the end, serve it (moe-router serve) until Ctrl-C, with a page to try."
)
@click.option("--port", default=8000, type=click.IntRange(0, 65535), help="Port of --serve; 0 takes a free one.")
@click.pass_context
def command(ctx: click.Context, output_dir: Path | None, keep: bool, serve: bool, port: int) -> None:
    """Run the whole chain on the embedded base model and the packaged sample data.

    Makes a routing data set, trains a router, scores it on held-out prompts, fine-tunes three small LoRA adapters,
    and answers new prompts. Takes a few minutes on two cores and no network.
    """
    app: Application = ctx.obj
    if not keep and output_dir is not None:
        raise UsageError("--output-dir keeps what the demo makes", hint="leave out --output-dir or --no-keep")
    if serve:
        from entrypoints.cli.serve import check_server

        check_server("127.0.0.1", port)
    if keep:
        folder = output_dir or Path("demo") / f"{app.clock.now():%Y%m%d_%H%M%S}"
        if folder.exists():
            raise TargetExistsError("already exists", where=folder, hint="choose another --output-dir")
        _run(ctx, app, folder, kept=True, port=port if serve else None)
        return
    with TemporaryDirectory(prefix="moe-router-demo-") as temporary:
        _run(ctx, app, Path(temporary) / "demo", kept=False, port=port if serve else None)


def _run(ctx: click.Context, app: Application, folder: Path, *, kept: bool, port: int | None) -> None:
    """Run the chain into `folder`; with a port, serve what came of it."""
    from rich.console import Console

    started = time.monotonic()
    console = Console(file=own_drawing(sys.stdout), highlight=False, soft_wrap=True)
    dataset = _generate(app, console, folder / "routing")
    router = _train(app, console, dataset, folder)
    _evaluate(app, console, dataset, router, folder)
    _finetune(app, console, dataset, folder / "loras")
    answering = _answer(app, console, router, folder / "loras")
    _compare(app, console, dataset, answering)
    seconds = time.monotonic() - started
    if kept:
        _show_next(console, folder, seconds)
    else:
        _heading(console, 7, f"Done in {seconds:.0f} s; nothing of it is kept")
    if port is not None:
        from entrypoints.cli.serve import command as serve

        words = ["--router", str(router), "--lora-dir", str(folder / "loras"), "--port", str(port)]
        console.print(f"\nmoe-router {shlex.join(['serve', *words])}", markup=False)
        with serve.make_context("serve", words, parent=ctx) as context:
            serve.invoke(context)


def _heading(console: Console, number: int, text: str) -> None:
    console.print(f"\n[bold]{number}. {text}[/bold]")


def _generate(app: Application, console: Console, target: Path) -> Path:
    """Draw a balanced routing data set out of the packaged source data."""
    from adapters.sample_sources import sample_sources
    from application.datasets.dataset_request import GenerateRequest
    from application.ports.datasets import Source

    _heading(console, 1, "A routing data set out of the adapters' own training data")
    sources = [Source(name, path) for name, path in sample_sources().items()]
    request = GenerateRequest(sources, train_samples=TRAIN_SAMPLES, output_dir=target, tool_version=tool_version())
    report = app.generate_dataset()(request)
    for account in report.accounts:
        console.print(f"  {account.adapter:<16} {account.lines} source lines, {account.kept} kept")
    console.print(
        "  " + ", ".join(f"{count} {split}" for split, count in report.counts.items()) + f" → {report.path}"
    )
    return report.path


def _train(app: Application, console: Console, dataset: Path, folder: Path) -> Path:
    """Train a router on the frozen base model's hidden states."""
    from adapters.sample_sources import sample_out_of_scope
    from entrypoints.backend import Where
    from entrypoints.reports.training import TrainingLines
    from entrypoints.settings import DataFiles, Training

    _heading(console, 2, "A router on the frozen base model's hidden states")
    request = Training(
        DataFiles(dataset),
        out_of_scope=sample_out_of_scope(),
        router_out=folder / "router-head.safetensors",
        log_dir=folder / "tensorboard",
    )

    def show(line: str) -> None:
        if line.strip():
            console.print(f"  {line}", markup=False)

    with app.interruption():
        report = app.backend(Where()).train(request, TrainingLines(show))
    return report.router_path


def _evaluate(app: Application, console: Console, dataset: Path, router: Path, folder: Path) -> None:
    """Score it on prompts that neither training nor validation has seen."""
    from adapters.sample_sources import sample_out_of_scope
    from entrypoints.backend import Evaluation, Where
    from entrypoints.reports.evaluation import as_values
    from entrypoints.reports.printing import json_bytes
    from entrypoints.settings import DataFiles

    _heading(console, 3, "Its score on held-out prompts")
    asked = Evaluation(router, DataFiles(dataset), out_of_scope=sample_out_of_scope(held_out=True), robustness=False)
    report = app.backend(Where()).evaluate(asked)
    app.write_file(folder / "router-eval.json", json_bytes(as_values(report)))
    figures = report.figures
    counts = f"{figures.correct} of {figures.total} prompts of {report.data_path.name}"
    console.print(f"  held-out accuracy {figures.accuracy:.4f} ({counts})")
    for one in figures.adapters:
        console.print(
            f"  {one.adapter:<16} precision {one.precision:.3f}  recall {one.recall:.3f}  ({one.support} prompts)"
        )
    found = report.out_of_scope
    assert found is not None  # they were asked for
    console.print(
        f"  answers {figures.coverage:.0%} of these prompts, {figures.selective_accuracy:.1%} of them rightly; "
        f"refuses {found.refused:.0%} of {found.total} prompts that belong to no adapter "
        f"(AUROC {found.auroc:.3f})"
    )


def _finetune(app: Application, console: Console, dataset: Path, target: Path) -> None:
    """Fine-tune one small LoRA adapter per source data set, without the rows that are held out."""
    from tempfile import TemporaryDirectory

    from adapters.sample_sources import sample_sources

    _heading(console, 4, "Three small LoRA adapters, fine-tuned on the same source data but the held-out rows")
    held_out = {row.source_id for row in app.datasets.read_rows(dataset / "eval.jsonl")}
    with TemporaryDirectory() as scratch:
        sources = {}
        for name, path in sample_sources().items():
            lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
            sources[name] = Path(scratch) / path.name
            kept = (line for line in lines if json.loads(line)["id"] not in held_out)
            sources[name].write_text("".join(kept), encoding="utf-8")
        for name, report in app.finetune(app.load_base(None))(sources, target).items():
            console.print(f"  {name:<16} loss {report.first_loss:.2f} → {report.last_loss:.2f} → {report.path}")


def _answer(app: Application, console: Console, router: Path, loras: Path) -> AnswerPrompts:
    """Answer every prompt through the adapter that the router picks; return what is loaded for that."""
    from application.ports.answering import AnswerRequest
    from domain.answers import Prompt
    from domain.chats import as_chat

    _heading(console, 5, "New prompts, each answered through the adapter that the router picks")
    trained = app.routers.load(router)
    folders = {name: loras / name for name in trained.card.labels.names}
    answering = app.answer_prompts(trained, folders)
    prompts = tuple(Prompt(as_chat(prompt)) for prompt in PROMPTS.values())
    answers = answering(AnswerRequest(prompts))
    for answer, prompt in zip(answers, PROMPTS.values(), strict=True):
        _show_answer(console, prompt, answer)
    return answering


def _show_answer(console: Console, prompt: str, answer: Answer) -> None:
    decision = answer.decision
    assert decision is not None  # the router does not fail without saying so
    console.print(f"\n  [prompt] {prompt}", markup=False)
    console.print(
        f"  [router] selected adapter={decision.adapter or 'none'} ({decision.reason}; confidence "
        f"{decision.confidence:.2f} for {decision.best}, out-of-scope score {decision.out_of_scope:.3f} "
        f"with limit {decision.thresholds.max_out_of_scope:.3f})",
        markup=False,
    )
    speaker = answer.adapter or f"base model, because {answer.fallback}"
    console.print(f"  [model] response: {shown(' '.join(answer.text.split()))}   ({speaker})", markup=False)


def _compare(app: Application, console: Console, dataset: Path, answering: AnswerPrompts) -> None:
    """Measure what the router's choices do to the reference answers of held-out prompts."""
    from application.comparing.compare_report import CompareRequest
    from entrypoints.reports.comparison import matrix_table

    _heading(console, 6, "What the choice does to answers: loss of held-out reference answers, nats per token")
    report = app.compare_loaded(answering)(CompareRequest(dataset, samples=COMPARED))
    console.print(matrix_table(report, console))
    gain = report.gain
    assert gain is not None  # there is a router
    console.print(
        f"  {len(report.rows)} prompts: the router's answers {gain.loss.value:.2f}, {gain.single} alone "
        f"{gain.single_loss.value:.2f}, the best choice for each prompt {gain.oracle.value:.2f}: "
        f"{gain.captured.value:.0%} of the headroom"
    )
    console.print(f"  {report.verdict}", markup=False)


def _show_next(console: Console, folder: Path, seconds: float) -> None:
    router, loras = folder / "router-head.safetensors", folder / "loras"
    _heading(console, 7, f"Done in {seconds:.0f} s. Where everything lies")
    for name, what in (
        ("routing/", "routing data set: train, val, eval, metadata"),
        ("router-head.safetensors", "trained router"),
        ("router-eval.json", "its score on held-out prompts"),
        ("tensorboard/", "training curves"),
        ("loras/", "three LoRA adapters in peft's format"),
    ):
        console.print(f"  {folder / name}  {what}")
    console.print("\n[bold]Try next[/bold]")
    for line in (
        f'moe-router infer --router {router} --lora-dir {loras} --prompt "Take me to May 2028 on the calendar"',
        f'moe-router route --router {router} --nearest 3 --prompt "Open the Correspondence tab of this claim"',
        f"moe-router describe {router}",
        f"moe-router doctor --lora-dir {loras}",
        f"moe-router compare --dataset-dir {folder / 'routing'} --lora-dir {loras} --router {router}",
        f"moe-router inspect {folder / 'routing'}",
        f"moe-router serve --router {router} --lora-dir {loras}",
        f"moe-router tensorboard --log-dir {folder / 'tensorboard'}",
    ):
        console.print(f"  {line}", markup=False)
