"""Output that cannot be written: nobody reads it any more, as in ``moe-router … | head -1``, or its disk is full."""

from __future__ import annotations

import errno
import os
import select
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final, TextIO

from domain.errors import StorageError

EXIT_UNREAD = 128 + signal.SIGPIPE
"""What a shell reports of a tool that SIGPIPE ended; `set -o pipefail` scripts know it."""

_FULL: Final = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


@contextmanager
def quiet_when_unread() -> Iterator[None]:
    """End the process quietly with :data:`EXIT_UNREAD` when the reader of our output has gone away.

    SIGPIPE itself stays ignored, as Python has it: it would also end us where a connection of ours breaks, and
    without clearing away what is half written. A pipe that breaks elsewhere is not ours to be quiet about.

    Raises:
        StorageError: what our output goes to is full.
    """
    try:
        yield
    except BrokenPipeError as error:
        unread = [stream for stream in (sys.stdout, sys.stderr) if _is_unread(stream)]
        if not unread:  # by another name: click takes every broken pipe for its output and ends without a word
            raise RuntimeError("a pipe or connection broke that is not our output") from error
        for stream in unread:
            _drop(stream)
        raise SystemExit(EXIT_UNREAD) from None
    except OSError as error:
        if error.errno not in _FULL or error.filename is not None:
            raise
        _drop(sys.stdout)
        raise StorageError(f"cannot write the output: {error.strerror}") from error


def _drop(stream: TextIO) -> None:
    """Let a stream go nowhere: the interpreter flushes it once more at its end, and would complain."""
    sink = os.open(os.devnull, os.O_WRONLY)
    os.dup2(sink, stream.fileno())
    os.close(sink)


def _is_unread(stream: TextIO) -> bool:
    try:
        descriptor = stream.fileno()
    except (OSError, ValueError):  # closed, or no file at all
        return False
    poll = select.poll()
    poll.register(descriptor, 0)  # errors and hang-ups are reported without being asked for
    return any(event & (select.POLLERR | select.POLLHUP) for _, event in poll.poll(0))
