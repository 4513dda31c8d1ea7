"""Two renames that `os` lacks: one that never replaces anything, and one that swaps two names.

Linux does each in one step (``renameat2``). Where the C library or the file system cannot (other systems, some
network file systems), each takes two steps, described at the functions. Every step leaves the content whole under
some name.
"""

from __future__ import annotations

import ctypes
import errno
import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

_AT_FDCWD, _NOREPLACE, _EXCHANGE = -100, 1, 2
_CANNOT = (errno.EINVAL, errno.ENOSYS, errno.ENOTSUP)


def rename_new(source: Path, target: Path) -> None:
    """Rename a folder, without ever replacing what has the new name.

    Without ``renameat2`` the name is taken with ``mkdir``, and the folder then replaces that empty one. Who is killed
    between the two leaves an empty folder.

    Raises:
        FileExistsError: something has the name.
        OSError: the file system refused.
    """
    if _renameat2(source, target, _NOREPLACE):
        return
    os.mkdir(target)  # noqa: PTH102 - here and below, calls of os: the tests let them fail by name
    try:
        os.rename(source, target)  # noqa: PTH104
    except BaseException:
        with suppress(OSError):  # somebody wrote into it: then it is theirs
            os.rmdir(target)  # noqa: PTH106
        raise


def exchange(new: Path, target: Path, aside: Callable[[], Path]) -> Path:
    """Give the folder `new` the name of the folder `target`; return where the folder that had it lies now.

    Without ``renameat2`` the old one is first renamed to `aside()`, and comes back should the next step fail. Who is
    killed between the two leaves it there, complete, see :func:`adapters.files.leftovers.clear_leftovers`.

    Raises:
        FileExistsError: somebody took the name between the two steps.
        OSError: the file system refused; `target` is what it was.
    """
    if _renameat2(new, target, _EXCHANGE):
        return new
    old = aside()
    os.rename(target, old)  # noqa: PTH104
    try:
        rename_new(new, target)
    except BaseException:
        with suppress(OSError):  # somebody has the name now
            os.rename(old, target)  # noqa: PTH104 - replaces an empty folder at most
        raise
    return old


def _renameat2(source: Path, target: Path, flags: int) -> bool:
    """Return False where the system cannot do it; raises OSError when it refuses."""
    try:
        call = ctypes.CDLL(None, use_errno=True).renameat2
    except AttributeError:
        return False
    if call(_AT_FDCWD, os.fsencode(source), _AT_FDCWD, os.fsencode(target), flags) == 0:
        return True
    number = ctypes.get_errno()
    if number in _CANNOT:
        return False
    raise OSError(number, os.strerror(number), str(source), None, str(target))
