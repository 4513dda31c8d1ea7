"""Does regret tell what accuracy does not? Three adapters whose data overlap, out of the packaged sources.

``calendar`` and ``desk`` share the calendar's prompts (each owns half of them, and learns from its half), ``desk``
also has the provider drop-down, ``claims`` the claim window. No router can tell the shared prompts apart, so accuracy
must suffer; whether answers do is what ``compare`` measures. Fine-tuning leaves out the rows that are held out.

    .venv/bin/python benchmarks/overlapping.py WORK_FOLDER
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from adapters.sample_sources import sample_source
from entrypoints.bootstrap import Application

LAYERS = ("--layers", "1,7", "--pooling", "mean", "--head", "linear")


def sources() -> dict[str, list[str]]:
    """Return the lines of each adapter's data: the calendar's are dealt in turn to two of them."""
    lines = {
        name: sample_source(name).read_text(encoding="utf-8").splitlines(keepends=True)
        for name in ("calendar", "claim-window", "provider-select")
    }
    return {
        "calendar": lines["calendar"][::2],
        "desk": lines["calendar"][1::2] + lines["provider-select"][:160],
        "claims": lines["claim-window"],
    }


def moe_router(*arguments: object) -> None:
    """Run a command; its output is this script's."""
    subprocess.run([sys.executable, "-m", "entrypoints", *map(str, arguments)], check=True)


def main(work: Path) -> None:
    """Make data set, router and adapters in `work`, and print both views of the router."""
    work.mkdir(parents=True)
    named = []
    for name, lines in sources().items():
        (work / f"{name}.jsonl").write_text("".join(lines), encoding="utf-8")
        named += ["--adapter", f"{name}={work / name}.jsonl"]
    data, router, loras = work / "data", work / "router.safetensors", work / "loras"
    moe_router("generate", *named, "--train-samples", 100, "--eval-samples", 40, "--output-dir", data)
    moe_router("train", "--dataset-dir", data, "--router-out", router, "--log-dir", work / "logs", *LAYERS)
    moe_router(
        "evaluate", "--dataset-dir", data, "--router", router, "--no-robustness", "--output", work / "eval.json"
    )
    app = Application()
    held_out = {row.source_id for row in app.datasets.read_rows(data / "eval.jsonl")}
    learnt = {}
    for name, lines in sources().items():
        learnt[name] = work / f"{name}-learnt.jsonl"
        kept = (line for line in lines if json.loads(line)["id"] not in held_out)
        learnt[name].write_text("".join(kept), encoding="utf-8")
    app.finetune(app.load_base(None))(learnt, loras)
    given = ("--dataset-dir", data, "--lora-dir", loras, "--router", router, "--samples", 40)
    moe_router("compare", *given, "--rows", work / "rows.jsonl", "--plot", work / "matrix.png")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
