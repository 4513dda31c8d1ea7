"""Reports to send around: one HTML file that needs no network, no script and no other file."""

from __future__ import annotations

import hashlib
import math
import platform
from datetime import datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path, PurePath
from typing import Any, Final

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from application.datasets.inspect_dataset import InspectReport
from application.routing.evaluate_router import EvaluateReport, WrongRow
from domain.fragility import mean_figures
from domain.printable import printable, shown
from domain.robustness import CHANGES
from domain.text_statistics import PERCENTILES
from entrypoints.reports.evaluation import MOST_COLUMNS
from entrypoints.version import tool_version

MOST_ROWS: Final = 200
"""Wrong rows that are shown at most; all of them stand in the file of ``evaluate --errors``."""
_PACKAGES: Final = ("torch", "transformers", "numpy", "scikit-learn", "safetensors")


def evaluation_page(report: EvaluateReport, made: datetime) -> bytes:
    """Return a router's score as a page; `made` is when."""
    from adapters.metrics.matplotlib_evaluation_plots import evaluation_svgs

    names = report.card.labels.names
    counts = report.figures.confusion
    wrong_pairs = [(names[gold], names[told], n) for (gold, told), n in counts.items() if gold != told]
    matrix = [[counts.get((gold, told), 0) for told in range(len(names))] for gold in range(len(names))]
    return _page(
        "evaluation.html",
        report=report,
        made=f"{made:%Y-%m-%d %H:%M}",
        answered=round(report.figures.coverage * report.figures.total),
        matrix=matrix if len(names) <= MOST_COLUMNS else None,
        pairs=sorted(wrong_pairs, key=lambda each: (-each[2], each))[:20],
        mean=mean_figures(list(report.robustness.values())) if report.robustness else None,
        does={change.name: change.description for change in CHANGES},
        wrong=sorted(report.wrong, key=_worst_first)[:MOST_ROWS],
        shown_rows=MOST_ROWS,
        plots={name: Markup(svg) for name, svg in evaluation_svgs(report).items()},
        facts=[*_router_facts(report), *_file_facts(report.data_path), *_versions()],
    )


def dataset_page(report: InspectReport, made: datetime) -> bytes:
    """Return what is in a data set as a page; `made` is when."""
    from adapters.datasets.matplotlib_dataset_plots import dataset_svgs

    files = [path for split in ("train", "val", "eval") if (path := report.path / f"{split}.jsonl").is_file()]
    return _page(
        "dataset.html",
        report=report,
        made=f"{made:%Y-%m-%d %H:%M}",
        total=sum(sum(one.counts.values()) for one in report.adapters),
        percentiles=PERCENTILES,
        plots={name: Markup(svg) for name, svg in dataset_svgs(report).items()},
        facts=[*(fact for path in files for fact in _file_facts(path)), *_versions()],
    )


def _page(template: str, **values: Any) -> bytes:
    pages = Environment(
        loader=PackageLoader("entrypoints.reports", "."),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_text,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    pages.filters |= {"percent": _percent, "number": _number}
    return pages.get_template(template).render(values).encode()


def _text(value: Any) -> Any:
    """Return a value as a page may show it: what others wrote has no character that is obeyed or cannot be kept."""
    if isinstance(value, Markup) or not isinstance(value, str | PurePath):
        return value
    return shown(printable(value) if isinstance(value, PurePath) else value)


def _percent(rate: float) -> str:
    return f"{100 * rate:.1f} %"


def _number(value: float) -> str:
    return f"{value:.3f}" if math.isfinite(value) else "none"


def _worst_first(row: WrongRow) -> tuple[bool, float]:
    return (not row.answered, -row.confidence)


def _router_facts(report: EvaluateReport) -> list[tuple[str, str]]:
    card = report.card
    features, base = card.features, card.features.base
    layers = ", ".join(map(str, features.layers))
    return [
        ("router, sha256", report.router_sha256 or "not saved"),
        ("made", f"{card.created_at}, version {card.tool_version}, seed {card.seed}"),
        ("base model", f"{base.name} ({base.n_layers} layers, fingerprint {base.fingerprint})"),
        ("features", f"hidden_states {layers}, {features.pooling} over at most {features.max_tokens} tokens"),
        ("head", f"{card.head}, temperature {card.temperature:.4f}"),
        ("trained on", f"{card.dataset}: {card.n_train} training, {card.n_val} validation prompts"),
        ("data set, sha256", card.dataset_sha256),
    ]


def _file_facts(path: Path) -> list[tuple[str, str]]:
    """Return a file's hash; nothing for a file that lies on another machine."""
    if not path.is_file():
        return []
    return [(f"{path.name}, sha256", hashlib.sha256(path.read_bytes()).hexdigest())]


def _versions() -> list[tuple[str, str]]:
    found = [f"moe-lora-router {tool_version()}", f"Python {platform.python_version()}"]
    for name in _PACKAGES:
        try:
            found.append(f"{name} {version(name)}")
        except PackageNotFoundError:
            continue
    return [("this report was made by", ", ".join(found))]
