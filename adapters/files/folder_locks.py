"""Hidden folders that one process works in: a lock on the folder tells a living maker from one that was killed.

The lock is advisory and dies with its holder, whatever ends it. Whoever meets the folder either finds the lock held
(somebody is at work) or takes it, and then knows that the folder's maker is gone. What is not covered: file systems
without working locks; there nothing is ever taken for a leftover.
"""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import time
from contextlib import suppress
from pathlib import Path

_TIMED_LEFTOVER = re.compile(r"\..+_\d{8}_\d{6}(_\d+)?\.partial")
"""What a run leaves that was killed while it worked under a name with a time stamp."""

_TRIES, _PAUSE = 20, 0.01
"""Whoever clears leftovers away holds a lock for moments only, maybe that of a folder that was just made."""


def lock_new_folder(path: Path) -> int | None:
    """Make the folder, anew when its maker was killed, and return its lock; None when somebody works in it."""
    while True:
        try:
            os.mkdir(path)  # noqa: PTH102 - the tests kill us at calls of os, by name
            created = True
        except FileExistsError:
            created = False
        descriptor = -1
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
            if not _lock(descriptor, created):
                os.close(descriptor)
                return None
            if _same_folder(descriptor, path):
                for leftover in path.iterdir():
                    shutil.rmtree(leftover) if leftover.is_dir() and not leftover.is_symlink() else leftover.unlink()
                return descriptor
            os.close(descriptor)  # its maker published or removed it while we waited for the lock
        except FileNotFoundError:  # published or removed between our two calls; make it again
            if descriptor >= 0:
                os.close(descriptor)
        except BaseException:  # a signal, too
            if created:
                with suppress(OSError):
                    path.rmdir()
            if descriptor >= 0:
                with suppress(OSError):
                    os.close(descriptor)  # with it goes the lock: a later try in this process must find it free
            raise


def clear_leftovers(parent: Path) -> None:
    """Remove what killed runs left in `parent` under names with a time stamp, which no later run asks for again.

    A folder whose maker lives, or may live, is left alone; so is what cannot be removed.
    """
    with suppress(OSError):
        for path in sorted(parent.iterdir()):
            if _TIMED_LEFTOVER.fullmatch(path.name):
                with suppress(OSError):
                    _clear(path)


def _clear(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)  # an OSError when it is held, or cannot be had at all
        if _same_folder(descriptor, path):  # not published in between
            shutil.rmtree(path)
    finally:
        os.close(descriptor)


def _lock(descriptor: int, created: bool) -> bool:
    for _ in range(_TRIES):
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            time.sleep(_PAUSE)
        except OSError:  # no locks on this file system: mkdir alone has to do
            return created
        else:
            return True
    return False


def _same_folder(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), path.lstat())
    except FileNotFoundError:
        return False
