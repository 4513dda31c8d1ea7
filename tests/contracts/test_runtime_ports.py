"""What every clock, progress reporter, metrics log and interruption promises."""

from __future__ import annotations

import io
import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from adapters.in_memory.runtime import FixedClock, RecordingProgressReporter
from adapters.in_memory.training import InMemoryMetricsLog, ScriptedInterruption
from adapters.metrics.tensorboard_metrics import TensorboardMetricsLog
from adapters.rich_progress import RichProgressReporter
from adapters.system_clock import SystemClock
from domain.early_stopping import Verdict
from domain.labels import LabelMap
from domain.training import Evaluated, LearningRateReduced, Noted, RunStarted, RunStopped, TrainOptions
from entrypoints.signals import ProcessInterruption

EVENTS = (
    RunStarted(TrainOptions(), 4, 2, "tiny", None, LabelMap(("a", "b"))),
    Noted("a choice"),
    Evaluated(20, 1, 0.5, 0.5, 0.4, 0.75, 1e-3, Verdict.IMPROVED),
    Evaluated(40, 1, float("nan"), 0.5, float("inf"), 0.0, 1e-3, Verdict.WAITING),
    LearningRateReduced(60, 1e-3, 5e-4, 1, 5),
    RunStopped(60, "epochs", 0.4, 0.75),
)


@pytest.mark.parametrize("clock", [SystemClock(), FixedClock()], ids=["system", "fixed"])
def test_clocks_tell_a_time_with_a_zone_that_never_runs_backwards(clock):
    first, second = clock.now(), clock.now()
    assert first.tzinfo is not None
    assert first <= second


@pytest.fixture(params=["rich on a terminal", "rich elsewhere", "recording"])
def progress(request):
    if request.param == "recording":
        return RecordingProgressReporter()
    return RichProgressReporter(Console(file=io.StringIO(), force_terminal=request.param == "rich on a terminal"))


@pytest.mark.parametrize("total", [3, 0, None])
def test_progress_takes_any_steps_and_never_writes_to_stdout(progress, total, capsys):
    with progress.track("outer", total) as outer:
        outer.advance()
        outer.advance(5)
    with progress.track("another", total):
        pass
    assert capsys.readouterr().out == ""


def test_progress_passes_the_works_own_errors_on(progress):
    with pytest.raises(KeyError), progress.track("failing", 2):
        raise KeyError("the work's own")


@pytest.mark.parametrize("log", [TensorboardMetricsLog(), InMemoryMetricsLog()], ids=["tensorboard", "in-memory"])
def test_metrics_logs_take_every_event_and_a_resumed_run(log, tmp_path, capsys):
    for from_step in (0, 41):
        with log.open(tmp_path / "deep" / "run", from_step=from_step) as observer:
            for event in EVENTS:
                observer.on_event(event)
    assert capsys.readouterr().out == ""


@contextmanager
def scripted() -> Iterator[tuple[Any, Callable[[], None]]]:
    interruption = ScriptedInterruption(at=2)
    yield interruption, lambda: None


@contextmanager
def of_the_process() -> Iterator[tuple[Any, Callable[[], None]]]:
    interruption = ProcessInterruption()
    with interruption():
        yield interruption, lambda: os.kill(os.getpid(), signal.SIGTERM)


@pytest.mark.skipif(sys.platform == "win32", reason="signals are POSIX")
@pytest.mark.parametrize("world", [scripted, of_the_process])
def test_an_interruption_waits_until_the_run_asks(world):
    with world() as (interruption, send), interruption.deferred() as ask:
        assert ask() is None
        send()
        assert ask() == signal.SIGTERM


def test_nothing_is_left_of_a_metrics_folder_that_cannot_be_made(tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(OSError, match="file"), TensorboardMetricsLog().open(Path(tmp_path / "file" / "run")):
        pass
    assert (tmp_path / "file").read_text() == "x"
