"""How ``moe-router generate`` reports what it made."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from application.datasets.dataset_metadata import account_as_json, validated_as_json
from application.datasets.dataset_request import GenerateReport
from application.datasets.draw_balanced import describe_losses
from domain.printable import printable
from domain.publishing import ANSWERS_FILE
from domain.split import Split

_RULE = "=" * 70


def as_text(report: GenerateReport, *, test: bool = False) -> str:
    """Return the report in the form of the workflow guide, with the accounting of the source lines."""
    return "\n".join(
        [
            *([f"Running in TEST mode ({_samples(report.request.train_samples)} per adapter)"] if test else []),
            *_head(report),
            *_adapters(report),
            *_totals(report),
            *_accounting(report),
            *_files(report),
            "",
            _RULE,
            "Dataset generation complete!",
            _RULE,
        ]
    )


def _samples(count: int) -> str:
    return "1 sample" if count == 1 else f"{count} samples"


def _head(report: GenerateReport) -> Iterator[str]:
    request = report.request
    train = round(100 * request.train_val_split, 6)
    yield from (_RULE, f"Generating Routing Dataset: {request.prefix}", _RULE)
    yield f"Output directory: {printable(report.path)}"
    yield f"Train samples per adapter: {request.train_samples}"
    yield f"Eval samples per adapter: {request.eval_samples}"
    yield f"Train/val split: {train:g}%/{round(100 - train, 6):g}%"
    yield f"Random seed: {request.seed}"
    yield from (_RULE, "")


def _adapters(report: GenerateReport) -> Iterator[str]:
    train, held_out = report.per_adapter
    for one in report.labels:
        yield f"Loading {one.name} (label={one.label})..."
        yield f"  {one.name:<21} -> train={train:>4}, eval={held_out:>3}"
    asked = report.request.train_samples + report.request.eval_samples
    if train + held_out < asked:
        yield f"  Fewer than the {asked} rows asked for: cut to the smallest adapter's count (--allow-fewer)"


def _totals(report: GenerateReport) -> Iterator[str]:
    yield from ("", "Total samples:")
    yield f"  Training: {report.counts[Split.TRAIN]}"
    yield f"  Validation: {report.counts[Split.VAL]}"
    yield f"  Eval: {report.counts[Split.EVAL]}"


def _accounting(report: GenerateReport) -> Iterator[str]:
    yield from ("", "Source lines:")
    read = {source.adapter: source.read_as for source in report.request.sources}
    for account in report.accounts:
        losses = describe_losses(account)
        yield (
            f"  {account.adapter:<21} {account.lines} seen, {account.drawn} drawn, {account.kept} kept, "
            f"{account.n_rejected} rejected, {account.not_drawn} not drawn{f' ({losses})' if losses else ''}"
        )
        if read_as := read[account.adapter]:
            yield f"  {'':<21} read as {read_as}"
    if report.validated:
        yield from ("", "Validation of every line:")
    for found in report.validated:
        reasons = [f"{count} {reason}" for reason, count in found.rejected.items()]
        reasons += [f"{found.blank} blank"] if found.blank else []
        yield f"  {found.adapter:<21} {found.usable} of {found.lines} usable" + (
            f" ({', '.join(reasons)})" if reasons else ""
        )


def _files(report: GenerateReport) -> Iterator[str]:
    yield from _answers(report)
    yield ""
    for file in report.files:
        if file.name == "rejects.jsonl":
            yield f"  Saved the first {file.rows} rejected lines to rejects.jsonl"
        elif file.rows is not None and file.name != ANSWERS_FILE:
            yield f"  Saved {file.rows} samples to {file.name}"
    yield "  Saved metadata to metadata.json"


def _answers(report: GenerateReport) -> Iterator[str]:
    if not report.n_answers:
        return
    held_out = report.per_adapter[1]
    lacking = ", ".join(
        f"{name} has none for {held_out - count}" for name, count in report.n_answers.items() if count < held_out
    )
    yield from ("", "Reference answers of the held-out rows:")
    total, asked = sum(report.n_answers.values()), held_out * len(report.n_answers)
    yield f"  {total} of {asked} in {ANSWERS_FILE}{f' ({lacking})' if lacking else ''}"


def as_values(report: GenerateReport) -> dict[str, Any]:
    """Return the report as plain values."""
    train, held_out = report.per_adapter
    return {
        "path": printable(report.path),
        "seed": report.request.seed,
        "labels": report.labels.as_mapping(),
        "samples": {str(split): count for split, count in report.counts.items()},
        "per_adapter": {"train": train, "eval": held_out},
        "read_as": {source.adapter: source.read_as for source in report.request.sources},
        "accounting": {account.adapter: account_as_json(account) for account in report.accounts},
        "validation": {found.adapter: validated_as_json(found) for found in report.validated},
        "reference_answers": dict(report.n_answers),
        "files": {one.name: {"sha256": one.sha256, "bytes": one.size, "rows": one.rows} for one in report.files},
    }
