"""Files that appear complete or not at all."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from adapters.files.writable import is_special
from domain.errors import StorageError


@contextmanager
def replacing(target: Path) -> Iterator[Path]:
    """Yield a path beside `target` to write to; when the block ends well, it becomes `target` in one rename.

    Missing parent folders are made. When the block fails, `target` is what it was and nothing is left beside it.
    A symbolic link is followed, so that it keeps pointing where it points.

    Raises:
        StorageError: the file system refused, or `target` is a device or pipe, as /dev/null; the message names it.
    """
    final = target.resolve()
    if is_special(final):
        raise StorageError("is a device or pipe, not a file", where=target)
    staged: Path | None = None
    try:
        final.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=f".{final.name[:100]}.", suffix=".part", dir=final.parent)
        staged = Path(name)
        os.close(handle)
        yield staged
        sync(staged)
        staged.chmod(0o666 & ~_umask())  # mkstemp makes it private to its owner
        staged.replace(final)
        sync(final.parent)
    except OSError as error:
        raise StorageError(f"cannot write: {error.strerror or error}", where=target) from error
    finally:
        if staged is not None:
            with suppress(OSError):
                staged.unlink(missing_ok=True)


def write_bytes(target: Path, content: bytes) -> None:
    """Write `content` to `target`: complete or not at all; raises StorageError."""
    with replacing(target) as staged:
        staged.write_bytes(content)


def sync(path: Path) -> None:
    """Force a file's or folder's content to the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
