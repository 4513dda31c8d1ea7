"""Whether something can be written at a place, found out before the long work whose result goes there."""

from __future__ import annotations

import errno
import os
import tempfile
from contextlib import suppress
from pathlib import Path

from domain.errors import StorageError, UsageError

_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EIO}


def check_writable(target: Path, *, folder: bool = False) -> None:
    """Raise unless a file (with `folder`, a folder) could be made or replaced at `target`; leaves nothing behind.

    Folders that are missing on the way are made by whoever writes, so the innermost one that is there counts. It is
    really written to, with a file that has no name: access rights alone do not tell of read-only file systems.

    Raises:
        UsageError: nothing can be written there; choose another place.
        StorageError: the file system cannot take anything now.
    """
    if os.path.isdir(target) and not folder:  # noqa: PTH112 - Path.is_dir raises for a name that is too long
        raise UsageError("is a folder, not a file", where=target, hint="name a file")
    try:
        with suppress(FileNotFoundError):
            target.lstat()  # is the name itself possible?
        if is_special(target):
            raise UsageError("is a device or pipe, not a file", where=target, hint="name a file")
        place = target.resolve().parent  # a symbolic link is followed, as writing follows it
        while not place.exists():
            place = place.parent
        with tempfile.TemporaryFile(dir=place):
            pass
    except (OSError, RuntimeError) as error:  # RuntimeError: symbolic links in a circle
        reason = getattr(error, "strerror", None) or str(error)
        if getattr(error, "errno", None) in _FULL:
            raise StorageError(f"cannot write: {reason}", where=target) from error
        raise UsageError(f"cannot write: {reason}", where=target, hint="choose another place") from error


def is_special(target: Path) -> bool:
    """Tell whether `target` is there and neither file nor folder: a rename would replace it, not fill it."""
    return target.exists() and not (target.is_file() or target.is_dir())
