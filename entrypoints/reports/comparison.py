"""A comparison of LoRA adapters: what ``moe-router compare`` prints, its JSON, and its file of prompts."""

from __future__ import annotations

import io
import sys
from collections.abc import Callable, Iterator
from typing import Any

import attrs
import orjson
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from application.comparing.compare_report import CompareReport
from domain.bootstrap import Estimate
from domain.comparison import BASE
from domain.printable import shown
from domain.routing_gain import RoutingGain

FEW = 5
"""Prompts that are shown in the report; ``--rows`` writes all."""


def as_values(report: CompareReport) -> dict[str, Any]:
    """Return the report as JSON-ready values."""
    found, gain, matches = report.adapters, report.gain, report.matches
    matrix: dict[str, dict[str, Any]] = {}
    for cell in found.cells:
        figures = {**attrs.asdict(cell.loss), "behind": attrs.asdict(cell.behind)}
        matrix.setdefault(cell.dataset, {})[cell.adapter] = figures
    return {
        "verdict": report.verdict,
        "dataset": str(report.dataset_dir),
        "adapters": list(report.names),
        "prompts": found.counts,
        "without_answer": dict(report.lacking),
        "unscored": [attrs.asdict(one) for one in report.unscored],
        "unit": "nats per token",
        "matrix": matrix,
        "gain_over_base": {name: attrs.asdict(each) for name, each in found.gains.items()},
        "no_better_than_base": list(found.no_better),
        "outdone": [
            {"dataset": one.dataset, "by": one.adapter, "behind": attrs.asdict(one.behind)} for one in found.outdone
        ],
        "swapped": [list(pair) for pair in found.swapped],
        "interchangeable": [attrs.asdict(pair) for pair in found.alike if pair.shown],
        "not_told_apart": [attrs.asdict(pair) for pair in found.alike if not pair.shown],
        "answered_better_elsewhere": len(found.elsewhere),
        "router": None if gain is None else {"sha256": report.router_sha256, **attrs.asdict(gain)},
        "matches": None if matches is None else attrs.asdict(matches),
    }


def rows_as_jsonl(report: CompareReport) -> bytes:
    """Return every scored prompt as a JSON line, those that another adapter answers better first."""
    better = {one.row: one for one in report.adapters.elsewhere}
    order = [*better, *(place for place in range(len(report.rows)) if place not in better)]
    return b"".join(
        orjson.dumps(_row(report, place, better.get(place)), option=orjson.OPT_APPEND_NEWLINE) for place in order
    )


def _row(report: CompareReport, place: int, better: Any) -> dict[str, Any]:
    row, speakers = report.rows[place], (BASE, *report.names)
    values: dict[str, Any] = {
        "adapter": row.adapter,
        "better": None if better is None else better.adapter,
        "by": None if better is None else better.by,
        "source_id": row.source_id,
        "text": row.text,
        "tokens": row.tokens,
        "losses": dict(zip(speakers, row.losses, strict=True)),
    }
    if report.routed:
        values["router"] = {"chosen": row.chosen, "best": row.best, "confidence": row.confidence}
    if row.answers:
        values["answers"] = {
            speaker: {"text": text, "matches": match}
            for speaker, text, match in zip(speakers, row.answers, row.matches, strict=True)
        }
    return values


def as_text(report: CompareReport) -> str:
    """Return the report for people."""
    console = Console(file=io.StringIO(), markup=False, highlight=False, width=None if sys.stdout.isatty() else 160)
    counts = report.adapters.counts.values()
    console.print(
        f"{len(report.rows)} held-out prompts of {report.dataset_dir} ({min(counts)} to {max(counts)} per adapter), "
        "by the loss of their reference answers in nats per token: the lower, the better",
        soft_wrap=True,
    )
    console.print(matrix_table(report, console))
    for line in (*_findings(report), *(router_lines(report.gain) if report.gain is not None else ())):
        console.print(Text(line), soft_wrap=True)
    if report.matches is not None:
        console.print(_matches(report))
    console.print(Text(f"\n{report.verdict}", style="bold"), soft_wrap=True)
    output = console.file
    assert isinstance(output, io.StringIO)
    return "\n".join(line.rstrip() for line in output.getvalue().rstrip().split("\n"))


def matrix_table(report: CompareReport, console: Console) -> Table:
    """Return who is good at whose prompts: a row per data set, the best of it in green.

    Where the console is too narrow for intervals, half their widths stand there; where it is too narrow for that,
    too, the table has each data set's own adapter, the base model and the best other.
    """
    endless = console.options.update(width=sys.maxsize)
    for form in (_interval, _rounded):
        table = _whole_table(report, form)
        if console.measure(table, options=endless).maximum <= console.width:
            return table
    return _short_table(report)


def _whole_table(report: CompareReport, form: Callable[[Estimate], str]) -> Table:
    found = report.adapters
    table = Table("prompts of \\ by", box=SIMPLE_HEAD)
    for name in (BASE, *found.names):
        table.add_column(name, justify="right")
    for dataset in found.counts:
        cells = [found.cell(dataset, name) for name in (BASE, *found.names)]
        best = min(cell.loss.value for cell in cells)
        table.add_row(
            dataset,
            *(Text(form(cell.loss), style="green" if cell.loss.value == best else "") for cell in cells),
        )
    return table


def _short_table(report: CompareReport) -> Table:
    found = report.adapters
    table = Table("prompts of", "itself", BASE, "best other", "", box=SIMPLE_HEAD)
    for dataset in found.counts:
        others = [one for one in found.cells if one.dataset == dataset and one.adapter not in (BASE, dataset)]
        best = min(others, key=lambda one: one.loss.value)
        own, base = found.cell(dataset, dataset), found.cell(dataset, BASE)
        table.add_row(dataset, _rounded(own.loss), _rounded(base.loss), _rounded(best.loss), best.adapter)
    return table


def _findings(report: CompareReport) -> Iterator[str]:
    found = report.adapters
    for name, count in report.lacking.items():
        yield f"{name}: {count} held-out rows have no reference answer"
    for one in report.unscored[:FEW]:
        yield f"not scored: {shown(one.source_id)} of {one.adapter}: {shown(one.problem)}"
    if len(report.unscored) > FEW:
        yield f"not scored: {len(report.unscored) - FEW} more"
    for one_name, other in found.swapped:
        yield f"⚠️  {one_name} and {other} seem to be swapped: each answers the other's prompts better"
    for cell in found.outdone:
        ahead = _gain(cell.behind, -1)
        yield f"⚠️  {cell.adapter} answers {cell.dataset}'s prompts better than {cell.dataset} itself, by {ahead}"
    for name in found.no_better:
        gain = _gain(found.gains[name])
        yield f"⚠️  {name} is not shown to be better than the base model on its own prompts: gain {gain}"
    for pair in found.alike:
        words = "are interchangeable" if pair.shown else "cannot be told apart with so few prompts"
        yield f"{pair.one} and {pair.other} {words}: {' and '.join(map(_gain, pair.apart))} apart"
    if found.elsewhere:
        yield f"{len(found.elsewhere)} prompts are answered better by another adapter than by their own:"
    for better in found.elsewhere[:FEW]:
        row = report.rows[better.row]
        yield f"  {row.adapter} → {better.adapter} by {better.by:.2f}: {shown(' '.join(row.text.split())[:100])}"


def router_lines(gain: RoutingGain) -> Iterator[str]:
    """Yield what the router gains, line by line."""
    single = f"over {gain.single}, the best single adapter"
    lost = gain.abstention
    for name, value in (
        ("", ""),
        ("The router", f"{_interval(gain.loss)}   (every prompt by its own adapter {gain.by_label.value:.3f})"),
        ("Oracle (best of each prompt)", f"{_interval(gain.oracle)}   regret {_gain(gain.regret)}"),
        ("Lift over the base model", _gain(gain.over_base)),
        (f"Lift {single}", _gain(gain.over_single)),
        ("Lift over uniform choice", _gain(gain.over_uniform)),
        ("Lift over its choices shuffled", _gain(gain.over_random)),
        ("Share of the headroom", f"{gain.captured.value:.1%} [{gain.captured.low:.1%}, {gain.captured.high:.1%}]"),
        ("Abstentions", f"{lost.count}; they cost {lost.cost:.3f} and save {lost.saved:.3f} per prompt"),
        ("First choice is the best", f"{gain.best_choices:.1%}; calibration error {gain.calibration_error:.3f}"),
    ):
        yield f"{name:<34} {value}".rstrip()


def _matches(report: CompareReport) -> Table:
    matches = report.matches
    assert matches is not None
    table = Table("same answer, prompts of", box=SIMPLE_HEAD)
    for name in (BASE, *report.names):
        table.add_column(name, justify="right")
    for dataset, rates in matches.rates.items():
        table.add_row(dataset, *(_share(rates[name]) for name in (BASE, *report.names)))
    over_all = f"its own adapter {_share(matches.by_label)}"
    table.caption = over_all if matches.router is None else f"the router {_share(matches.router)}, {over_all}"
    return table


def _share(one: Estimate) -> str:
    return f"{one.value:.0%} [{one.low:.0%}, {one.high:.0%}]"


def _interval(one: Estimate) -> str:
    return f"{one.value:.3f} [{one.low:.3f}, {one.high:.3f}]"


def _rounded(one: Estimate) -> str:
    return f"{one.value:.2f} ±{(one.high - one.low) / 2:.2f}"


def _gain(one: Estimate, sign: int = 1) -> str:
    low, high = sorted((sign * one.low, sign * one.high))
    return f"{sign * one.value:.3f} [{low:.3f}, {high:.3f}]"
