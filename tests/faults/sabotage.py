"""Letting the N-th file-system operation of a process fail, in every way that one can.

The method is SQLite's: N = 1, 2, 3 … until the run needs no more operations. A run happens in a child process, so
that it can be killed, too; `make faults` takes every N, the ordinary tests take some.
"""

from __future__ import annotations

import builtins
import errno
import io
import os
import signal
import traceback
from collections.abc import Callable, Iterator
from enum import StrEnum
from pathlib import Path
from typing import Any

from attrs import define, frozen

from adapters.files import renames
from domain.errors import MoeRouterError
from entrypoints.signals import ProcessInterruption

EVERYTHING = os.environ.get("MOE_ROUTER_FAULTS") == "all"
CALLS = ("open", "mkdir", "write", "fsync", "rename", "replace", "unlink", "rmdir", "truncate", "ftruncate", "utime")
MOST = 3000


class Mode(StrEnum):
    """What happens at the N-th operation; "for good" means at every later one as well."""

    ERROR = "error"
    ERROR_FOR_GOOD = "error for good"
    FULL = "disk full"
    FULL_FOR_GOOD = "disk full for good"
    KILL = "kill"
    SIGNAL = "signal"


class Ended(StrEnum):
    """How a run ended."""

    WELL = "well"
    REFUSED = "one clear error"
    KILLED = "killed"
    INTERRUPTED = "interrupted"
    BROKEN = "anything else"


@frozen
class Run:
    """How a run ended, and whether its fault came at all."""

    ended: Ended
    reached: bool
    told: str


@define
class Saboteur:
    """Counts operations and lets one of them, or every one from it on, do what `mode` says."""

    at: int
    mode: Mode
    count: int = 0

    def install(self) -> None:
        """Put itself before every operation of this process; there is no way back."""
        for name in CALLS:
            setattr(os, name, self._before(getattr(os, name), writes=name == "open"))
        renames._renameat2 = self._before(renames._renameat2)  # type: ignore[assignment]
        builtins.open = io.open = self._opened(io.open)  # type: ignore[assignment]

    def _before(self, call: Callable[..., Any], writes: bool = False) -> Callable[..., Any]:
        def sabotaged(*args: Any, **kwargs: Any) -> Any:
            if not writes or (args[1:] and args[1] & (os.O_WRONLY | os.O_RDWR)):
                self.strike()
            return call(*args, **kwargs)

        return sabotaged

    def _opened(self, call: Callable[..., Any]) -> Callable[..., Any]:
        def sabotaged(file: Any, mode: str = "r", *args: Any, **kwargs: Any) -> Any:
            if isinstance(file, int) or not set(mode) & set("wax+"):
                return call(file, mode, *args, **kwargs)
            self.strike()
            return _File(call(file, mode, *args, **kwargs), self.strike)

        return sabotaged

    def strike(self) -> None:
        """Count one operation; fail when its time has come."""
        self.count += 1
        if self.count < self.at or (self.count > self.at and "good" not in self.mode):
            return
        if self.mode is Mode.KILL:
            os.kill(os.getpid(), signal.SIGKILL)
        elif self.mode is Mode.SIGNAL:
            os.kill(os.getpid(), signal.SIGTERM)
        else:
            number = errno.EIO if self.mode in (Mode.ERROR, Mode.ERROR_FOR_GOOD) else errno.ENOSPC
            raise OSError(number, os.strerror(number))


class _File:
    """A file that is written to through Python's own buffer."""

    def __init__(self, file: Any, strike: Callable[[], None]) -> None:
        self._file, self._strike = file, strike

    def write(self, content: Any) -> Any:
        self._strike()
        return self._file.write(content)

    def __enter__(self) -> _File:
        self._file.__enter__()
        return self

    def __exit__(self, *reason: Any) -> None:
        self._file.__exit__(*reason)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)


def sabotaged(work: Callable[[], object], at: int, mode: Mode) -> Run:
    """Run `work` in a child process whose operation number `at` fails."""
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        _run_and_leave(work, Saboteur(at, mode), writing)
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        told = pipe.read().decode(errors="replace")
    status = os.waitpid(child, 0)[1]
    if os.WIFSIGNALED(status):
        return Run(Ended.KILLED if os.WTERMSIG(status) == signal.SIGKILL else Ended.BROKEN, True, told)
    ended = list(Ended)[os.WEXITSTATUS(status)]
    reached, _, told = told.partition("\n")
    return Run(ended, reached == "reached", told)


def _run_and_leave(work: Callable[[], object], saboteur: Saboteur, pipe: int) -> None:
    write, ended, told = os.write, Ended.BROKEN, ""
    try:
        saboteur.install()
        with ProcessInterruption()():
            work()
        ended = Ended.WELL
    except MoeRouterError as error:
        told = str(error)
        ended = Ended.INTERRUPTED if saboteur.mode is Mode.SIGNAL else Ended.REFUSED
    except BaseException:
        told = traceback.format_exc()
    finally:
        reached = "reached" if saboteur.count >= saboteur.at else "not reached"
        write(pipe, f"{reached}\n{told}".encode())
        os._exit(list(Ended).index(ended))


def places(sampled: int) -> Iterator[int]:
    """Yield where to fail: everywhere in `make faults`, else at about every `sampled`-th operation."""
    yield from range(1, MOST, 1 if EVERYTHING else sampled)


def names_in(folder: Path) -> set[str]:
    """Return what is in a folder, at any depth."""
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}
