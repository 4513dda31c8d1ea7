"""The doctor's report, for people and for programs."""

from __future__ import annotations

from typing import Any

from application.answering.check_lora_adapters import LoraCheck, LoraDiagnosis


def as_values(check: LoraCheck) -> dict[str, Any]:
    """Return the report as plain values."""
    return {
        "ok": check.sound,
        "base_model": check.base_name,
        "adapters": [_object(each) for each in check.diagnoses],
    }


def _object(each: LoraDiagnosis) -> dict[str, Any]:
    facts = each.facts
    return {
        "name": each.name,
        "folder": str(each.folder),
        "ok": each.sound,
        "problems": list(each.problems),
        "warnings": list(each.warnings),
        "rank": facts.rank if facts else None,
        "target_modules": list(facts.targets) if facts else None,
        "layers": len(facts.layers) if facts else None,
        "bytes": facts.size if facts else None,
        "sha256": facts.sha256 if facts else None,
        "made_for": facts.base_name if facts else None,
        "system_prompt": facts.has_system_prompt if facts else None,
        "effect": each.effect,
        "nearest": each.nearest,
        "nearest_distance": each.nearest_distance,
    }


def as_text(check: LoraCheck) -> str:
    """Return the report as lines of text."""
    width = max(7, *(len(each.name) for each in check.diagnoses))
    lines = [
        f"base model: {check.base_name}",
        f"{'adapter':{width}}  {'':4}  {'rank':>4}  {'layers':>6}  {'size':>8}  {'sha256':12}  {'effect':>7}  "
        "nearest other",
    ]
    for each in check.diagnoses:
        lines.append(_row(each, width))
        lines += [f"{'':{width}}  ✗ {problem}" for problem in each.problems]
        lines += [f"{'':{width}}  ! {warning}" for warning in each.warnings]
    targets = sorted({name for each in check.diagnoses if each.facts for name in each.facts.targets})
    lines.append(f"target modules: {', '.join(targets) or '-'}")
    lines.append("effect and distance: largest change of a next-token logit, in standard deviations of the base's")
    return "\n".join(lines)


def _row(each: LoraDiagnosis, width: int) -> str:
    facts = each.facts
    numbers = (
        (f"{facts.rank:>4}", f"{len(facts.layers):>6}", f"{facts.size / 1e6:>5.1f} MB", f"{facts.sha256[:12]:12}")
        if facts
        else (f"{'-':>4}", f"{'-':>6}", f"{'-':>8}", f"{'-':12}")
    )
    effect = "-" if each.effect is None else f"{each.effect:.2f}"
    nearest = "-" if each.nearest_distance is None else f"{each.nearest} ({each.nearest_distance:.2f})"
    return "  ".join((f"{each.name:{width}}", "ok  " if each.sound else "BAD ", *numbers, f"{effect:>7}", nearest))
