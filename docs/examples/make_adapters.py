"""Make what the tutorial takes for granted: training data of three adapters, and the LoRA adapters themselves.

``python docs/examples/make_adapters.py FOLDER`` writes ``FOLDER/data/*.jsonl`` and ``FOLDER/data/small-talk.txt`` and
fine-tunes ``FOLDER/loras/*`` on the embedded base model (about a minute on two cores; ``--data-only``: not at all).
You have all of this already, made by whatever you fine-tune with.
"""

from __future__ import annotations

import argparse
import itertools
import json
import random
from pathlib import Path

WORDS = {
    "billing": (
        ["Refund invoice {n}", "Why was I charged {n} euros twice?", "Send me the receipt of payment {n}",
         "Change the card for subscription {n}", "Invoice {n} shows the wrong address", "When is bill {n} due?"],
        '{{"tool": "billing", "invoice": {n}}}',
    ),
    "travel": (
        ["Book a train to {place} on day {n}", "Find a hotel in {place} for {n} nights", "Cancel the bus to {place}",
         "How long is the flight to {place}?", "Move my trip to {place} by {n} days", "{n} window seats to {place}"],
        '{{"tool": "travel", "to": "{place}"}}',
    ),
    "recipes": (
        ["Cook {dish} for {n} people", "What can I use instead of butter in {dish}?", "How long do I bake {dish}?",
         "Give me a vegetarian {dish}", "Scale {dish} to {n} portions", "Which wine goes with {dish}?"],
        '{{"tool": "recipes", "dish": "{dish}"}}',
    ),
}  # fmt: skip
PLACES = ["Vienna", "Oslo", "Porto", "Krakow", "Ghent", "Turin", "Malmo", "Seville"]
DISHES = ["lasagne", "lentil soup", "apple pie", "risotto", "ratatouille", "pancakes", "paella", "goulash"]
SMALL_TALK = [
    "Hello there", "Thanks, that is all", "Tell me a joke", "Who won the match last night?", "What is your name?",
    "Is it going to rain tomorrow?", "Write a poem about the sea", "How tall is Mount Everest?", "Good morning",
    "Translate this sentence into Latin", "What do you think about politics?", "Play some music", "I am bored",
    "How do I tie a tie?", "Fix my printer", "Which phone should I buy?", "Solve x + 3 = 8", "Who are you?",
]  # fmt: skip


def rows(name: str, count: int = 160) -> list[dict[str, list[dict[str, str]]]]:
    """Return chats: a prompt, and the answer that the adapter is to give."""
    questions, answer = WORDS[name]
    drawn = random.Random(name)
    made: dict[str, str] = {}
    for question in itertools.cycle(questions):
        values = {"n": drawn.randint(2, 900), "place": drawn.choice(PLACES), "dish": drawn.choice(DISHES)}
        made[question.format(**values)] = answer.format(**values)
        if len(made) == count:
            return [{"messages": [_turn("user", asked), _turn("assistant", told)]} for asked, told in made.items()]
    raise AssertionError("the questions come round for ever")


def _turn(role: str, content: str) -> dict[str, str]:
    return {"role": role, "content": content}


def main(folder: Path, *, data_only: bool = False) -> None:
    """Write the files, and the LoRA adapters."""
    data = folder / "data"
    data.mkdir(parents=True, exist_ok=True)
    paths = {name: data / f"{name}.jsonl" for name in WORDS}
    for name, path in paths.items():
        path.write_text("".join(json.dumps(row) + "\n" for row in rows(name)), "utf-8")
    (data / "small-talk.txt").write_text("\n".join(SMALL_TALK) + "\n", "utf-8")
    if data_only:
        return
    from entrypoints.api import Application

    app = Application()
    finetune = app.finetune(app.load_base(None))
    for name, path in paths.items():
        report = finetune({name: path}, folder / "loras")[name]
        print(f"{name}: loss {report.first_loss:.2f} → {report.last_loss:.2f}, {report.path}", flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, metavar="FOLDER")
    parser.add_argument("--data-only", action="store_true")
    main(**vars(parser.parse_args()))
