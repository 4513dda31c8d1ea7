"""Hidden names that work is done under, and what becomes of those that a killed run left.

A hidden name is ``.<name>.<16 hex digits>.moe-partial`` (or another last word): no two runs ever share one, and no
other program writes it. Its maker holds a lock on it, which dies with the maker. Locks serve one purpose: whoever
finds one free knows a leftover. Nothing that is published depends on them. Where they do not work (none at all, or
granted to everyone, as on some network file systems) nothing is taken for a leftover.
"""

from __future__ import annotations

import os
import re
import secrets
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from adapters.files.locks import Lock, is_at, try_lock

_HIDDEN = re.compile(r"\.(?P<name>.+)\.[0-9a-f]{16}\.moe-(?P<role>partial|aside|gone)", re.DOTALL)
_NAME_BYTES = 200
"""What is kept of a long name: file systems allow 255 bytes."""

_TRIES = 10
"""Another run may take a name that was just made for a leftover and remove it; then a new name is made."""


def hidden_name(target: Path, role: str = "partial") -> Path:
    """Return a new name beside `target`.

    Args:
        target: what it will become, or was.
        role: "partial" for what is being made, "aside" for what must come back when its maker is killed, "gone" for
            what is being removed.
    """
    name = target.name if role == "aside" else os.fsdecode(os.fsencode(target.name)[:_NAME_BYTES])
    return target.with_name(f".{name}.{secrets.token_hex(8)}.moe-{role}")


@contextmanager
def hidden(target: Path, *, folder: bool) -> Iterator[Path]:
    """Make an empty file or folder under a hidden name and hold its lock; if it has that name at the end, it goes."""
    make = _make_folder if folder else _make_file
    for _ in range(_TRIES):
        path = hidden_name(target)
        with make(path) as descriptor:
            if descriptor is None or try_lock(descriptor, tries=1) is Lock.HELD or not is_at(descriptor, path):
                continue  # somebody took it for a leftover before we had the lock
            yield path
            return
    raise BlockingIOError(f"another process keeps removing {path.name}")


@contextmanager
def _make_folder(path: Path) -> Iterator[int | None]:
    os.mkdir(path)  # noqa: PTH102 - a call of os: the tests let it fail by name
    descriptor = None
    try:
        with suppress(FileNotFoundError):
            descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
        yield descriptor
    finally:
        if descriptor is None:
            with suppress(OSError):
                path.rmdir()
        else:
            if is_at(descriptor, path):  # not published, nor exchanged for what had the name
                shutil.rmtree(path, ignore_errors=True)
            os.close(descriptor)


@contextmanager
def _make_file(path: Path) -> Iterator[int | None]:
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o666)
    try:
        yield descriptor
    finally:
        with suppress(OSError):
            path.unlink(missing_ok=True)
        os.close(descriptor)


@contextmanager
def guarded(folder: Path) -> Iterator[bool]:
    """Hold the lock of a folder that is to get a hidden name; False when a living run holds it."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        yield try_lock(descriptor) is not Lock.HELD and is_at(descriptor, folder)
    finally:
        os.close(descriptor)


def clear_leftovers(parent: Path) -> set[str]:
    """Remove what killed runs left in `parent`; return the names that living runs are working on.

    A folder that was moved aside to be replaced comes back when its name is free. What cannot be looked at or
    removed is left alone.
    """
    living: set[str] = set()
    with suppress(OSError):
        for found in [match for entry in os.listdir(parent) if (match := _HIDDEN.fullmatch(entry))]:  # noqa: PTH208
            with suppress(OSError):
                lock = _clear(parent / found[0], parent / found["name"], found["role"])
                if lock is Lock.HELD and found["role"] == "partial":
                    living.add(found["name"])
    return living


def _clear(path: Path, target: Path, role: str) -> Lock:
    if not stat.S_ISREG(mode := path.lstat().st_mode) and not stat.S_ISDIR(mode):
        return Lock.NONE
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
    try:
        lock = try_lock(descriptor)
        if not is_at(descriptor, path):  # published, or cleared by somebody else
            return Lock.NONE
        if lock is not Lock.OURS or not _excludes(path):
            return lock
        if role != "aside" or not _came_back(path, target):
            gone = hidden_name(
                target, "gone"
            )  # renamed first: its maker, should it live after all, can publish it no more
            os.rename(path, gone)  # noqa: PTH104
            shutil.rmtree(gone) if stat.S_ISDIR(mode) else gone.unlink()
        return lock
    finally:
        os.close(descriptor)


def _came_back(folder: Path, target: Path) -> bool:
    """Give a folder its name back, unless something but an empty folder has it."""
    try:
        os.rename(folder, target)  # noqa: PTH104
    except OSError:
        return False
    return True


def _excludes(path: Path) -> bool:
    """Tell whether the lock that we hold keeps others out: some file systems grant it to everyone."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
    try:
        return try_lock(descriptor, tries=1) is Lock.HELD
    finally:
        os.close(descriptor)
