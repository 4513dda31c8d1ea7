"""``moe-router compare``: measure LoRA adapters, and a router's choices, by reference answers."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from domain.answers import GenerationOptions
from domain.errors import UsageError
from entrypoints.backend import Comparison, Upstream, Where
from entrypoints.bootstrap import Application
from entrypoints.cli.lora_options import lora_options
from entrypoints.cli.options import PATH, backend_options, base_model_option, grouped, json_option, max_batch_option
from entrypoints.cli.upstream_options import UPSTREAM_OPTIONS, upstream_option

if TYPE_CHECKING:
    from application.comparing.compare_report import CompareReport


def _upstream(
    upstream: str | None, upstream_model: str | None, upstream_base: str | None, upstream_key: str | None
) -> Upstream | None:
    named = (upstream_model, upstream_base, upstream_key)
    if upstream is None and any(named):
        raise UsageError("what is said of the upstream goes with --upstream")
    return None if upstream is None else Upstream(upstream, "vllm", *named)


@click.command("compare")
@click.option("--dataset-dir", type=PATH, required=True, metavar="DIR", help="Data set with eval-answers.jsonl.")
@lora_options
@click.option("--router", type=PATH, metavar="PATH", help="Also measure this router's choices.")
@base_model_option("the router's own, else the embedded one")
@click.option("--samples", default=50, metavar="N", help="Most held-out prompts per adapter.")
@click.option("--own-system", is_flag=True, help="Ask with the source rows' own system turns.")
@click.option(
    "--generate", is_flag=True, help="Also let everybody answer, and count the same answers and tool calls."
)
@click.option("--max-new-tokens", default=128, help="With --generate: an answer ends after this many tokens.")
@click.option(
    "--rows", type=PATH, metavar="FILE", help="Write every prompt here, those better answered elsewhere first."
)
@click.option("--plot", type=PATH, metavar="FILE", help="Draw the matrix into this PNG file.")
@click.option("--seed", default=42, help="Seed of the intervals' resamples.")
@click.option("--no-cache", is_flag=True, help="Neither read nor write the cache of scores.")
@grouped(
    "upstream",
    _upstream,
    upstream_option("A vLLM that holds the adapters, in place of --lora and --lora-dir."),
    *UPSTREAM_OPTIONS,
)
@backend_options(max_batch_option)
@json_option
@click.pass_obj
def command(
    app: Application,
    *,
    dataset_dir: Path,
    loras: dict[str, Path],
    lora_dir: Path | None,
    router: Path | None,
    base_model: str | None,
    samples: int,
    own_system: bool,
    generate: bool,
    max_new_tokens: int,
    rows: Path | None,
    plot: Path | None,
    seed: int,
    no_cache: bool,
    upstream: Upstream | None,
    where: Where,
    as_json: bool,
) -> None:
    """Measure LoRA adapters, and a router's choices between them, by what they do to answers.

    The likelihood of each held-out prompt's reference answer is computed under the base model and under every
    adapter: who is good at whose prompts, which adapters are swapped, interchangeable or no better than the base
    model, and what routing gains over any single adapter. Everything has an interval.
    """
    from entrypoints.reports.comparison import as_text, as_values, rows_as_jsonl
    from entrypoints.reports.printing import print_report

    app.check_writable(rows, plot)
    if max_new_tokens != 128 and not generate:
        raise UsageError("--max-new-tokens goes with --generate")
    if upstream is not None and (loras or lora_dir or generate):
        raise UsageError("--upstream goes without --lora, --lora-dir and --generate")
    request = Comparison(
        dataset_dir=dataset_dir,
        lora_dir=lora_dir,
        loras=loras,
        router=router,
        base_model=base_model,
        samples=samples,
        own_system=own_system,
        generation=GenerationOptions(max_new_tokens=max_new_tokens) if generate else None,
        seed=seed,
        use_cache=not no_cache,
        upstream=upstream,
    )
    with app.interruption("interrupted; scores so far are in the cache", hint="run the same command to go on"):
        report = app.backend(where).compare(request)
    saved = app.write_files((rows, lambda: rows_as_jsonl(report)), (plot, lambda: _picture(report)))
    print_report(report, as_text, as_values, as_json=as_json, saved=saved)


def _picture(report: CompareReport) -> bytes:
    from adapters.metrics.matplotlib_comparison_plot import comparison_png

    return comparison_png(report)
