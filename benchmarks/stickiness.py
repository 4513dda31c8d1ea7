"""How large the margin must be by which a conversation changes hands: `domain.stickiness.SWITCH_MARGIN`.

    python benchmarks/stickiness.py FOLDER

FOLDER holds ``router-head.safetensors`` and the data set ``routing`` (a `make demo`, or what benchmarks/trunk.py
trains). Conversations are scripted out of its held-out prompts: an adapter answers, then comes a follow-up that says
little by itself, another prompt for the same adapter, or one for another adapter. The newest turn is read, led by the
opener while it is short. Printed for each margin: how many turns went to the wrong adapter.
"""

from __future__ import annotations

import argparse
import random
import sys
from collections.abc import Iterable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from application.routing.route_prompts import RouteRequest
from domain.samples import RoutingSample
from domain.stickiness import settle
from domain.turns import TurnChoice, chosen_text, is_short
from entrypoints.bootstrap import Application

MARGINS = (0.0, 0.1, 0.2, 0.3, 0.5, 0.7)
FOLLOW_UPS = (
    "yes", "commit it", "go on", "do that again please", "now the second one as well", "no, the other one",
    "that looks wrong, try again", "can you explain why you did that", "make it shorter please",
    "and what comes next", "undo the last step", "the same for the next row", "not that one, the one below",
    "wait a moment",
    "is it done already?", "go back to the previous page", "close it and open it again", "what did you click on?",
)  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("folder", type=Path)
    folder = parser.parse_args().folder
    app = Application()
    router = app.routers.load(folder / "router-head.safetensors")
    rows = app.datasets.read_rows(folder / "routing" / "eval.jsonl")
    turns = [(row, *turn) for row in rows for turn in scripted(row, rows)]
    texts = [chosen_text([row.text, said], TurnChoice.LAST) for row, _, said, _ in turns]
    asked = tuple(dict.fromkeys(texts))
    decided = dict(zip(asked, app.route_prompts(router)(RouteRequest(asked)), strict=True))
    for margin in MARGINS:
        faults = {"follow-up": [0, 0], "same adapter": [0, 0], "change of subject": [0, 0]}
        for (row, kind, said, target), text in zip(turns, texts, strict=True):
            settled = settle(decided[text], row.adapter, short=is_short(said), margin=margin)
            faults[kind][0] += settled.adapter != target
            faults[kind][1] += 1
        told = ", ".join(f"{kind} {wrong} of {count} wrong" for kind, (wrong, count) in faults.items())
        print(f"margin {margin:.1f}: {told}")


def scripted(row: RoutingSample, rows: list[RoutingSample]) -> Iterable[tuple[str, str, str]]:
    """Yield the turns that may come after a prompt: kind, text, and who should answer."""
    chance = random.Random(row.text)
    same = [other for other in rows if other.adapter == row.adapter and other.text != row.text]
    others = [other for other in rows if other.adapter != row.adapter]
    yield "follow-up", chance.choice(FOLLOW_UPS), row.adapter
    yield "same adapter", chance.choice(same).text, row.adapter
    other = chance.choice(others)
    yield "change of subject", other.text, other.adapter


if __name__ == "__main__":
    main()
