"""How ``moe-router verify`` tells what it found."""

from __future__ import annotations

from typing import Any

from application.datasets.verify_dataset import VerifyReport
from domain.printable import printable

_MARKS = {"passed": "✓", "failed": "✗", "skipped": "-"}


def as_text(report: VerifyReport) -> str:
    """Return a line for each check, and the verdict."""
    width = max(len(check.name) for check in report.checks)
    lines = [f"  {_MARKS[check.outcome]} {check.name:<{width}}  {check.detail}" for check in report.checks]
    failed = sum(check.outcome == "failed" for check in report.checks)
    verdict = "✓ The data set can be trusted." if report.passed else f"✗ {failed} of {len(lines)} checks failed."
    return "\n".join([f"Verifying {printable(report.path)}", "", *lines, "", verdict])


def as_values(report: VerifyReport) -> dict[str, Any]:
    """Return the report as plain values."""
    checks = [{"name": one.name, "outcome": one.outcome, "detail": one.detail} for one in report.checks]
    return {"path": printable(report.path), "passed": report.passed, "checks": checks}
