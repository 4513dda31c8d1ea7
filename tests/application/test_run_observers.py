from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

from application.ports import TrainJob
from application.training.run_observers import announce
from domain.labels import LabelMap
from domain.samples import RoutingSample
from domain.training import TrainOptions
from domain.training_events import Noted, TrainingEvent

JOB = TrainJob(Path("t"), Path("v"), None, Path("r"), None, TrainOptions())


def notes(red: int, blue: int) -> list[str]:
    rows = [RoutingSample(f"red {i}", 0, "red", "") for i in range(red)]
    rows += [RoutingSample(f"blue {i}", 1, "blue", "") for i in range(blue)]
    data: Any = SimpleNamespace(
        labels=LabelMap(("red", "blue")), train=tuple(rows[1:]), val=tuple(rows[:1]), out_of_scope=(), warnings=()
    )
    heard: list[TrainingEvent] = []
    announce(JOB, data, "tiny", None, [], heard.append)
    return [event.message for event in heard if isinstance(event, Noted)]


def test_adapters_of_few_rows_are_said_to_be_weighted_up():
    (note,) = notes(9, 2)
    assert note.startswith("note: the adapters have 2 (blue) to 9 (red) rows: those of few rows are weighted up")
    assert notes(8, 2) == []
