"""What holds for every command: fast help, lazy imports, exit codes, one line per user's error."""

import subprocess
import sys
from importlib import import_module

import click
import pytest
import structlog

from domain.errors import (
    DataRejectedError,
    InterruptedRunError,
    LoraAdapterError,
    MismatchError,
    MissingFileError,
    MoeRouterError,
    RemoteError,
    RouterFileError,
    StorageError,
    TargetExistsError,
    TrainingDivergedError,
    UsageError,
)
from entrypoints import cli as frame

HEAVY = {"torch", "modal", "transformers", "peft", "tensorboard", "sklearn", "matplotlib", "numpy"}


@pytest.fixture(scope="module")
def loaded():
    """What each of these command lines, one after the other in one process, ended with and had loaded by then."""
    program = (
        "import sys\n"
        "from entrypoints.cli import main\n"
        f"for argv in {[['--help'], ['--version'], *([name, '--help'] for name in frame.COMMANDS)]!r}:\n"
        "    try: main(argv)\n"
        f"    except SystemExit as e: print('ENDED', argv[0], e.code, sorted({HEAVY!r} & set(sys.modules)))\n"
    )
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    lines = [line.split(" ", 2) for line in result.stdout.splitlines() if line.startswith("ENDED")]
    return {name: told for _, name, told in lines}


@pytest.mark.parametrize("option", ["--help", "--version"])
def test_help_and_version_load_nothing_heavy(loaded, option):
    assert loaded[option] == "0 []"


@pytest.mark.parametrize("name", frame.COMMANDS)
def test_every_command_exists_has_help_and_imports_nothing_heavy_for_it(loaded, name):
    assert loaded[name] == "0 []"
    command = import_module(f"entrypoints.cli.{frame.COMMANDS[name][0]}").command
    assert command.help
    undocumented = [o.name for o in command.params if isinstance(o, click.Option) and not o.help]
    assert not undocumented


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (MoeRouterError("x"), 1),
        (StorageError("x"), 1),
        (TargetExistsError("x"), 1),
        (UsageError("x"), 2),
        (MissingFileError("x"), 2),
        (DataRejectedError("x"), 3),
        (RouterFileError("x"), 3),
        (MismatchError("x"), 3),
        (LoraAdapterError("x"), 3),
        (TrainingDivergedError("x"), 4),
        (RemoteError("x"), 5),
        (InterruptedRunError("x", signal_number=2), 130),
        (InterruptedRunError("x", signal_number=15), 143),
    ],
)
def test_each_kind_of_error_has_its_exit_code(error, code):
    assert frame.exit_code(error) == code


@pytest.mark.parametrize(
    ("error", "builtin"),
    [
        (UsageError("x"), ValueError),
        (MissingFileError("x"), FileNotFoundError),
        (TargetExistsError("x"), FileExistsError),
        (StorageError("x"), OSError),
        (TrainingDivergedError("x"), ArithmeticError),
        (RemoteError("x"), ConnectionError),
    ],
)
def test_each_error_is_also_the_builtin_that_other_code_would_catch(error, builtin):
    assert isinstance(error, builtin)
    assert isinstance(error, MoeRouterError)


def test_an_error_is_one_line_with_where_what_and_what_to_do(monkeypatch, capsys):
    def fail(**_: object) -> None:
        raise MissingFileError("no such\nfile", where="a.jsonl", hint="check the path")

    monkeypatch.setattr(frame.cli, "main", fail)
    with pytest.raises(SystemExit) as exit_:
        frame.main([])
    assert exit_.value.code == 2
    assert capsys.readouterr().err == "moe-router: a.jsonl: no such file (check the path)\n"


@pytest.mark.parametrize(
    ("command", "shown"),
    [
        (["doctor", "--lora-dir", "x"], "choose (--lora NAME=DIR, `fallback base`); `moe-router verify x`"),
        (["serve", "--lora-dir", "x"], "choose (--lora NAME=DIR, --fallback base); `moe-router verify x`"),
    ],
)
def test_a_hint_shows_the_options_that_the_command_has_as_its_flags(monkeypatch, capsys, command, shown):
    def fail(*_: object, **__: object) -> None:
        raise UsageError("no", hint="choose (`lora NAME=DIR`, `fallback base`); `moe-router verify x`")

    monkeypatch.setattr(import_module(f"entrypoints.cli.{command[0]}").command, "callback", fail)
    with pytest.raises(SystemExit) as exit_:
        frame.main(command)
    assert exit_.value.code == 2
    assert capsys.readouterr().err == f"moe-router: no ({shown})\n"


def test_a_bug_keeps_its_traceback(monkeypatch):
    def fail(**_: object) -> None:
        raise KeyError("bug")

    monkeypatch.setattr(frame.cli, "main", fail)
    with pytest.raises(KeyError):
        frame.main([])


def test_an_unknown_command_is_a_usage_error(capsys):
    with pytest.raises(SystemExit) as exit_:
        frame.main(["no-such-command"])
    assert exit_.value.code == 2
    assert "no-such-command" in capsys.readouterr().err


@pytest.fixture
def fresh_logs():
    """Commands that run in this process bind the log to a captured stderr, which is closed afterwards."""
    yield
    structlog.reset_defaults()


@pytest.mark.usefixtures("fresh_logs")
def test_a_bad_option_value_is_one_line(capsys):
    with pytest.raises(SystemExit) as exit_:
        frame.main(["generate", "--train-samples", "abc"])
    assert exit_.value.code == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "--train-samples" in error
    assert "moe-router generate --help" in error


@pytest.mark.usefixtures("fresh_logs")
def test_the_demo_refuses_a_folder_that_is_there(tmp_path, capsys):
    with pytest.raises(SystemExit) as exit_:
        frame.main(["demo", "--output-dir", str(tmp_path)])
    assert exit_.value.code == 1
    assert capsys.readouterr().err.startswith(f"moe-router: {tmp_path}: already exists")
