"""What every clock, progress reporter, metrics log and interruption promises."""

from __future__ import annotations

import io
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from attrs import evolve
from rich.console import Console
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from adapters.in_memory.runtime import FixedClock, RecordingProgressReporter
from adapters.in_memory.training import InMemoryMetricsLog, ScriptedInterruption
from adapters.metrics.tensorboard_metrics import TensorboardMetricsLog
from adapters.rich_progress import RichProgressReporter
from adapters.system_clock import SystemClock
from domain.early_stopping import Verdict
from domain.labels import LabelMap
from domain.training import StopReason, TrainOptions
from domain.training_events import Evaluated, LearningRateReduced, Noted, RunStarted, RunStopped
from entrypoints.signals import ProcessInterruption

EVENTS = (
    RunStarted(TrainOptions(), 4, 2, "tiny", None, LabelMap(("a", "b"))),
    Noted("a choice"),
    Evaluated(20, 1, 0.5, 0.5, 0.4, 0.75, 1e-3, Verdict.IMPROVED),
    Evaluated(40, 1, float("nan"), 0.5, float("inf"), 0.0, 1e-3, Verdict.WAITING),
    LearningRateReduced(60, 1e-3, 5e-4, 1, 5),
    RunStopped(60, StopReason.EPOCHS, 0.4, 0.75),
)


@pytest.mark.parametrize("clock", [SystemClock(), FixedClock()], ids=["system", "fixed"])
def test_clocks_tell_a_time_with_a_zone_that_never_runs_backwards(clock):
    first, second = clock.now(), clock.now()
    assert first.tzinfo is not None
    assert first <= second


@pytest.fixture(params=["rich on a terminal", "rich elsewhere", "recording"])
def progress(request, monkeypatch):
    if request.param == "recording":
        return RecordingProgressReporter()
    monkeypatch.setenv("TTY_COMPATIBLE", "1" if request.param == "rich on a terminal" else "0")  # what rich goes by
    return RichProgressReporter()


@pytest.mark.parametrize("total", [3, 0, None])
def test_progress_takes_any_steps_and_never_writes_to_stdout(progress, total, capsys):
    with progress.track("outer", total) as outer:
        outer.advance()
        outer.advance(5)
    with progress.track("another", total):
        pass
    shown = capsys.readouterr()
    assert shown.out == ""
    drawn = isinstance(progress, RichProgressReporter) and progress.console.is_terminal
    assert ("outer" in shown.err, "another" in shown.err) == (drawn, drawn)  # the bars are on stderr, or nowhere


@pytest.mark.parametrize(("quiet", "lines"), [(False, ["outer\\u001b: 2 of 3"]), (True, [])])
def test_where_there_is_no_terminal_a_line_says_how_far_long_work_is_but_not_the_work_inside_it(quiet, lines):
    written, said = io.StringIO(), threading.Event()
    console = Console(file=written)
    console.file.flush = said.set
    reporter = RichProgressReporter(console, quiet=lambda: quiet, first_line=0.01)
    with reporter.track("outer\x1b", 3) as outer, reporter.track("inner", None):
        outer.advance(2)
        said.wait(0.05 if quiet else 30)
    assert written.getvalue().splitlines()[:1] == lines
    assert "inner" not in written.getvalue()


def test_a_reader_of_stderr_that_is_gone_ends_the_lines_and_nothing_else(monkeypatch):
    failed, tried = [], threading.Event()
    monkeypatch.setattr(threading, "excepthook", failed.append)

    class Gone(io.StringIO):
        def write(self, text: str) -> int:
            tried.set()
            raise BrokenPipeError

    with RichProgressReporter(Console(file=Gone()), first_line=0.01).track("work", None):
        tried.wait(30)
    (teller,) = [thread for thread in threading.enumerate() if "tell" in thread.name] or [threading.current_thread()]
    if teller is not threading.current_thread():
        teller.join(30)
    assert failed == []


def test_progress_passes_the_works_own_errors_on(progress):
    with pytest.raises(KeyError), progress.track("failing", 2):
        raise KeyError("the work's own")


def evaluated_steps(log: Any, folder: Path) -> list[int]:
    """Return what a log holds of a run's evaluations, whatever form it keeps them in."""
    if isinstance(log, InMemoryMetricsLog):
        return [event.step for run in log.runs[folder] for event in run.events if isinstance(event, Evaluated)]
    return [each.step for each in EventAccumulator(str(folder)).Reload().Scalars("loss/eval")]


@pytest.mark.parametrize("log", [TensorboardMetricsLog(), InMemoryMetricsLog()], ids=["tensorboard", "in-memory"])
def test_metrics_logs_keep_every_event_of_a_run_and_of_its_resumption(log, tmp_path, capsys):
    folder = tmp_path / "deep" / "run"
    with log.open(folder) as observer:
        for event in EVENTS:
            observer.on_event(event)
    assert evaluated_steps(log, folder) == [20, 40]
    with log.open(folder, from_step=41) as observer:
        observer.on_event(evolve(EVENTS[2], step=60))
    assert evaluated_steps(log, folder) == [20, 40, 60]
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
