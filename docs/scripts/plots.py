"""Draw docs/pictures/decisions.svg out of a real run: how prompts lie to a router's two limits.

``python docs/scripts/plots.py ROUTER DATASET_DIR OUT_OF_SCOPE_FILE``, for example with what ``moe-router demo`` made:

    moe-router demo --output-dir demo/plots
    python docs/scripts/plots.py demo/plots/router-head.safetensors demo/plots/routing \\
        adapters/sample_sources/out-of-scope-eval.txt
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from matplotlib import rc_context
from matplotlib.figure import Figure

from domain.robustness import CHANGES
from entrypoints.api import RoutingDecision, open_router

PICTURE = Path(__file__).parents[1] / "pictures" / "decisions.svg"
MOST = 150


def main(router_file: Path, dataset: Path, outside_file: Path) -> None:
    """Route held-out prompts, changed copies of them, and out-of-scope prompts; draw where they lie."""
    router = open_router(router_file)
    rows = [json.loads(line) for line in (dataset / "eval.jsonl").read_text("utf-8").splitlines()][:MOST]
    texts = [row["text"] for row in rows]
    changed = [CHANGES[number % len(CHANGES)](text) for number, text in enumerate(texts)]
    outside = outside_file.read_text("utf-8").splitlines()[:MOST]
    groups = {
        "held-out prompts": (texts, "#2f6fa7", "o"),
        "the same, changed": (changed, "#2e7d4f", "^"),
        "prompts of no adapter": (outside, "#b3362c", "x"),
    }
    figure = Figure(figsize=(9, 4.6), layout="constrained", facecolor="white")
    axes = figure.add_subplot()
    limits = router.card.thresholds
    for name, (prompts, colour, marker) in groups.items():
        decisions: list[RoutingDecision] = router.route_many(prompts)
        answered = sum(each.adapter is not None for each in decisions)
        x, y = [each.out_of_scope for each in decisions], [each.confidence for each in decisions]
        label = f"{name}: {answered} of {len(decisions)} answered"
        axes.scatter(x, y, s=22, c=colour, marker=marker, alpha=0.7, label=label, linewidths=1)
    axes.axvline(limits.max_out_of_scope, color="#5b6675", linestyle="--", linewidth=1)
    axes.axhline(limits.min_confidence, color="#5b6675", linestyle="--", linewidth=1)
    left, _ = axes.get_xlim()
    _, top = axes.set_ylim(0.3, 1.04)
    axes.fill_between([left, limits.max_out_of_scope], limits.min_confidence, top, color="#2f6fa7", alpha=0.06)
    axes.set_xlim(left=left)
    axes.set_xlabel("out-of-scope score: how unlike everything that the router remembers")
    axes.set_ylabel("confidence in the best adapter")
    axes.legend(loc="lower left")
    PICTURE.parent.mkdir(exist_ok=True)
    figure.savefig(PICTURE, metadata={"Date": None})
    print(f"saved {PICTURE}")


if __name__ == "__main__":
    with rc_context({"svg.fonttype": "none", "svg.hashsalt": "decisions", "font.family": "sans-serif"}):
        main(*map(Path, sys.argv[1:4]))
