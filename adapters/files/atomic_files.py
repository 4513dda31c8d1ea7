"""Files that appear complete or not at all."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from adapters.files.leftovers import clear_leftovers, hidden
from adapters.files.writable import is_special
from domain.errors import MoeRouterError, StorageError


@contextmanager
def staged_file(target: Path) -> Iterator[Path]:
    """Yield an empty file beside `target` to write to; when the block ends well, it becomes `target` in one rename.

    Missing parent folders are made. When the block fails, `target` is what it was and nothing is left beside it; what
    a killed run left is removed by the next one. A symbolic link is followed, so that it keeps pointing where it
    points.

    Raises:
        StorageError: the file system refused, or `target` is a folder, or a device or pipe, as /dev/null; the message
            names it.
    """
    try:
        final = target.resolve()
        if is_special(final):
            raise StorageError("is a device or pipe, not a file", where=target)
        final.parent.mkdir(parents=True, exist_ok=True)
        clear_leftovers(final.parent)
        with hidden(final, folder=False) as staged:
            yield staged
            sync(staged)
            os.replace(staged, final)  # noqa: PTH105 - a call of os: the tests let it fail by name
            sync(final.parent)
    except MoeRouterError:  # some of them are OSErrors, too
        raise
    except (OSError, RuntimeError) as error:  # RuntimeError: symbolic links in a circle
        raise StorageError(f"cannot write: {getattr(error, 'strerror', None) or error}", where=target) from error


def write_bytes(target: Path, content: bytes) -> None:
    """Write `content` to `target`: complete or not at all; raises StorageError."""
    with staged_file(target) as staged:
        write_all(staged, content, os.O_TRUNC)


def write_all(path: Path, content: bytes, flags: int) -> None:
    """Open with `flags` beside those for writing, and write everything."""
    descriptor = os.open(path, os.O_WRONLY | flags, 0o666)
    try:
        view = memoryview(content)
        while view:
            view = view[os.write(descriptor, view) :]
    finally:
        os.close(descriptor)


def sync(path: Path) -> None:
    """Force a file's or folder's content to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
