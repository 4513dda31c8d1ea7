"""Reading files that others made: a pipe or a device would block for ever, or never end."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO


class SpecialFileError(OSError):
    """What was to be read is a device, a pipe or a socket."""


@contextmanager
def open_regular(path: Path) -> Iterator[BinaryIO]:
    """Open a regular file for reading; a symbolic link is followed.

    Raises:
        SpecialFileError: it is a device, a pipe or a socket.
        OSError: the file system refused, or it is a folder.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)  # a pipe without a writer opens at once
    mode = os.fstat(descriptor).st_mode
    if not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):
        os.close(descriptor)
        raise SpecialFileError("is a device or pipe, not a file")
    with os.fdopen(descriptor, "rb") as file:  # raises IsADirectoryError for a folder
        yield file


def read_regular(path: Path) -> bytes:
    """Return a regular file's content; raises as :func:`open_regular`."""
    with open_regular(path) as file:
        return file.read()
