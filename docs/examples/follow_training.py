"""Follow a training run in your own program: ``python docs/examples/follow_training.py DATASET ROUTER [BASE]``."""

from __future__ import annotations

import argparse

from domain.training_events import Evaluated, RunStopped
from entrypoints.api import TrainingEvent, TrainOptions, train


class Lowest:
    """Prints each evaluation that is better than all before it, and how the run ended."""

    def __init__(self) -> None:
        self.loss = float("inf")

    def on_event(self, event: TrainingEvent) -> None:
        """Take one event of the run; the others say what was chosen and noted on the way."""
        match event:
            case Evaluated() if event.eval_loss < self.loss:
                self.loss = event.eval_loss
                print(f"step {event.step}: loss {event.eval_loss:.4f}, accuracy {event.eval_accuracy:.2f}")
            case RunStopped():
                print(f"stopped: {event.reason}")
            case _:
                pass


parser = argparse.ArgumentParser(description=__doc__)
for name, many in (("dataset", None), ("router", None), ("base", "?")):
    parser.add_argument(name, nargs=many, metavar=name.upper())
words = parser.parse_args()
train(words.dataset, words.router, base_model=words.base, options=TrainOptions(epochs=20), observer=Lowest())
