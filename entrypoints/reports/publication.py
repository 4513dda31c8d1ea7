"""How ``moe-router publish`` tells what it uploads."""

from __future__ import annotations

from typing import Any

from application.publishing.publish_dataset import PublishPlan, PublishReport, Transfer

_RULE = "=" * 60


def header(plan: PublishPlan, volume: str) -> str:
    """Return what is about to be published, and where to."""
    lines = [
        _RULE,
        f"Uploading Dataset: {plan.dataset}",
        _RULE,
        f"Local directory:  {plan.local_dir}",
        f"Modal volume:     {volume}",
        f"Remote path:      {plan.remote}/",
        f"Files to upload:  {len(plan.files)}",
    ]
    if plan.latest:
        lines.append(f"Also replaces:    {plan.latest}/")
    return "\n".join([*lines, _RULE, ""])


def preview(plan: PublishPlan, volume: str) -> str:
    """Return what a publication would upload."""
    folders = [plan.remote, *([plan.latest] if plan.latest else [])]
    lines = [
        f"Would upload {file.name} -> {volume}:{folder}/{file.name} ({file.size} bytes)"
        for folder in folders
        for file in plan.files
    ]
    return "\n".join([*lines, "", "Dry run: nothing was uploaded"])


def as_text(report: PublishReport, volume: str) -> str:
    """Return what became of each file."""
    plan = report.plan
    lines = _transfers(report.files, f"{volume}:{plan.remote}")
    if plan.latest and report.latest is not None:
        lines += _transfers(report.latest, f"{volume}:{plan.latest}")
    done = f"Uploaded {report.uploaded} file(s) to {volume}:{plan.remote}/"
    if present := sum(kind == "already there" for kind in report.files.values()):
        done += f"; {present} already there"
    lines += [_RULE, "✓ Upload complete!", f"  {done}"]
    if plan.latest:
        lines.append(f"  {plan.latest}/ now holds {plan.dataset}")
    return "\n".join([*lines, _RULE])


def _transfers(transfers: dict[str, Transfer], folder: str) -> list[str]:
    lines = []
    for name, kind in transfers.items():
        if kind is Transfer.REMOVED:
            lines += [f"Removing {folder}/{name}", "  ✓ Success (the new data set has none)", ""]
            continue
        detail = {Transfer.PRESENT: " (already there, same content)", Transfer.REPLACED: " (replaced)"}.get(kind, "")
        lines += [f"Uploading {name} -> {folder}/{name}", f"  ✓ Success{detail}", ""]
    return lines


def as_values(plan: PublishPlan, volume: str, report: PublishReport | None) -> dict[str, Any]:
    """Return the report as plain values; the plan alone, when nothing was uploaded."""
    return {
        "dataset": plan.dataset,
        "local_dir": str(plan.local_dir),
        "volume": volume,
        "remote_dir": plan.remote,
        "latest_dir": plan.latest,
        "dry_run": report is None,
        "files": [
            {
                "name": file.name,
                "size": file.size,
                "sha256": file.sha256,
                "outcome": "planned" if report is None else str(report.files[file.name]),
            }
            for file in plan.files
        ],
    }
