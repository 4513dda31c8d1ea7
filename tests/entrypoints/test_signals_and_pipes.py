"""How commands end when somebody ends them: signals, and readers that go away."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from domain.errors import InterruptedRunError
from entrypoints import bootstrap
from entrypoints.cli import main
from entrypoints.signals import ProcessInterruption
from tests.answering_world import small_router

ROOT = Path(__file__).parents[2]
SIGNALS = (signal.SIGTERM, signal.SIGINT)


@pytest.fixture
def signalled(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Make loading a base model signal this process, in the middle of code that turns every error into its own."""

    def set_up(number: int) -> None:
        def load(*_: object, **__: object) -> None:
            try:
                os.kill(os.getpid(), number)
            except Exception as error:
                raise AssertionError("the signal was taken for a failure") from error

        monkeypatch.setattr(bootstrap.Application, "load_base", load)

    return set_up


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    from adapters.in_memory.features import InMemoryFeatureExtractor
    from adapters.router.safetensors_router_store import SafetensorsRouterStore
    from domain.features import BaseModel

    monkeypatch.chdir(tmp_path)
    for name in ("VAL_DATA", "ROUTER_OUT", "BASE_MODEL_ID"):
        monkeypatch.delenv(name, raising=False)
    features = InMemoryFeatureExtractor(BaseModel("tiny", "tiny-v1", n_layers=4, hidden_size=32))
    SafetensorsRouterStore().save(small_router(features), tmp_path / "router-head.safetensors")
    (tmp_path / "prompts.jsonl").write_text('{"prompt": "book a table"}\n')
    (tmp_path / "val.jsonl").write_text('{"text": "a", "label": 0, "adapter": "calendar", "source_id": "1"}\n')
    return tmp_path


COMMANDS = {
    "infer": (["infer", "--prompt", "book", "--fallback", "base"], "interrupted"),
    "infer a file": (
        ["infer", "--input", "prompts.jsonl", "--output", "a.jsonl", "--fallback", "base"],
        "interrupted (finished answers are kept in a.jsonl; run the same command to go on)",
    ),
    "infer --route-only": (["infer", "--prompt", "book", "--route-only"], "interrupted"),
    "evaluate": (["evaluate", "--data-path", "val.jsonl"], "interrupted; nothing was written (run it again)"),
    "route": (["route", "--prompt", "book"], "interrupted"),
}


@pytest.mark.parametrize("number", SIGNALS)
@pytest.mark.parametrize("name", COMMANDS)
def test_a_signal_is_one_line_and_its_exit_code(
    place: Path, signalled: Any, capsys: pytest.CaptureFixture[str], name: str, number: int
) -> None:
    arguments, words = COMMANDS[name]
    signalled(number)
    before = [signal.getsignal(each) for each in SIGNALS]
    files = sorted(path.name for path in place.iterdir())
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 128 + number
    assert capsys.readouterr() == ("", f"moe-router: {words}\n")
    assert sorted(path.name for path in place.iterdir()) == files
    assert [signal.getsignal(each) for each in SIGNALS] == before


def test_no_handler_of_ordinary_errors_stops_a_signal() -> None:
    def run() -> None:
        try:
            os.kill(os.getpid(), signal.SIGTERM)
        except Exception as error:
            raise AssertionError("taken for a failure") from error

    with pytest.raises(InterruptedRunError) as caught, ProcessInterruption()():
        run()
    assert caught.value.signal_number == signal.SIGTERM


def unread(*arguments: str, stderr_too: bool = False) -> tuple[int, str]:
    """Run a command whose output nobody reads; return its exit code and what it said on stderr."""
    read_end, write_end = os.pipe()
    os.close(read_end)
    try:
        ended = subprocess.run(
            [sys.executable, "-m", "entrypoints", *arguments],
            stdout=write_end,
            stderr=write_end if stderr_too else subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            text=True,
            check=False,
        )
    finally:
        os.close(write_end)
    return ended.returncode, ended.stderr or ""


@pytest.mark.parametrize(
    "arguments", [["--help"], ["generate", "--help"], ["describe", "router-head.safetensors"], ["--version"]]
)
def test_output_that_nobody_reads_ends_a_command_quietly(place: Path, arguments: list[str]) -> None:
    assert unread(*arguments) == (141, "")
    assert unread(*arguments, stderr_too=True)[0] == 141


def test_a_pipe_that_is_not_ours_is_a_bug_with_its_traceback(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise BrokenPipeError(32, "Broken pipe")

    monkeypatch.setattr(bootstrap.Application, "load_base", fail)
    with pytest.raises(RuntimeError, match="not our output"):
        main(["route", "--prompt", "book"])
    assert capsys.readouterr() == ("", "")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
@pytest.mark.parametrize("arguments", [["--help"], ["describe", "router-head.safetensors"]])
def test_output_onto_a_full_disk_is_one_line(place: Path, arguments: list[str]) -> None:
    with Path("/dev/full").open("w") as full:
        ended = subprocess.run(
            [sys.executable, "-m", "entrypoints", *arguments],
            stdout=full,
            stderr=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            text=True,
            check=False,
        )
    assert (ended.returncode, ended.stderr) == (1, "moe-router: cannot write the output: No space left on device\n")
