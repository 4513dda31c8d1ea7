"""Advisory locks on files and folders, which die with their holder."""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from enum import Enum
from pathlib import Path

_TRIES, _PAUSE = 10, 0.005
"""Who clears leftovers away holds a lock for moments only: seconds between two tries."""


class Lock(Enum):
    """What trying a lock found."""

    OURS = "ours"
    HELD = "held by somebody"
    NONE = "there are no locks here"


def try_lock(descriptor: int, tries: int = _TRIES) -> Lock:
    """Take the lock of an open file or folder; it is held until the descriptor is closed."""
    for left in reversed(range(tries)):
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            time.sleep(_PAUSE if left else 0)
        except OSError:
            return Lock.NONE
        else:
            return Lock.OURS
    return Lock.HELD


def is_at(descriptor: int, path: Path) -> bool:
    """Tell whether what was opened still has this name."""
    try:
        return os.path.samestat(os.fstat(descriptor), path.lstat())
    except FileNotFoundError:
        return False


@contextmanager
def locked_file(path: Path) -> Iterator[bool]:
    """Hold the lock of a file that is appended to; yield False when another process holds it.

    A file that is not there is made, and removed again when it is empty at the end. Where there are no locks, nobody
    is kept out. Raises OSError.
    """
    path = path.resolve()
    descriptor, made = _opened(path)
    try:
        ours = try_lock(descriptor) is not Lock.HELD and is_at(descriptor, path)  # not removed, empty, in between
        yield ours
    finally:
        with suppress(OSError):
            if made and os.fstat(descriptor).st_size == 0:
                path.unlink(missing_ok=True)
        os.close(descriptor)


def _opened(path: Path) -> tuple[int, bool]:
    try:
        return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666), True
    except FileExistsError:
        return os.open(path, os.O_WRONLY), False
