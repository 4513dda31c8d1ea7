"""Reading files of a LoRA adapter's folder, which may come from anybody: regular, of bounded size, in the folder."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from domain.errors import LoraAdapterError, MissingFileError

TEXT_LIMIT = 1 << 18
"""Most bytes of a system turn or a chat template."""

CONFIG_LIMIT = 1 << 20
"""Most bytes of a configuration."""

TOKENIZER_LIMIT = 1 << 26
"""Most bytes of a tokenizer."""


def checked_file(folder: Path, name: str, limit: int) -> Path | None:
    """Return the path of a file that may be read, None when there is none.

    A link may lead to another file of the folder, or into the blobs of the hub's cache that the folder is part of.

    Raises:
        LoraAdapterError: it is not a regular file, too large, or a link out of the folder.
    """
    path = folder / name
    try:
        target = path.resolve(strict=True)
        found = target.stat()
    except FileNotFoundError:
        if path.is_symlink():
            raise LoraAdapterError(f"{name} is a link to nothing", where=folder) from None
        return None
    except (OSError, RuntimeError) as error:  # RuntimeError: links in a circle
        raise LoraAdapterError(f"{name} cannot be read: {error}", where=folder) from error
    home = folder.resolve()
    blobs = home.parent.parent / "blobs" if home.parent.name == "snapshots" else home
    if target.parent not in (home, blobs):
        raise LoraAdapterError(f"{name} is a link out of the folder", where=folder)
    if not stat.S_ISREG(found.st_mode):
        raise LoraAdapterError(f"{name} is not a regular file", where=folder)
    if found.st_size > limit:
        raise LoraAdapterError(f"{name} has {found.st_size:,} bytes, more than {limit:,}", where=folder)
    return path


def read_file(folder: Path, name: str, limit: int) -> bytes:
    """Return a file's bytes; raises MissingFileError when there is none, and what `checked_file` raises."""
    path = checked_file(folder, name, limit)
    if path is None:
        raise MissingFileError(f"{name} is missing", where=folder)
    try:
        with open(path, "rb", opener=_without_waiting) as file:
            return file.read(limit)
    except OSError as error:
        raise LoraAdapterError(f"{name} cannot be read: {error.strerror}", where=folder) from error


def read_text(folder: Path, name: str) -> str | None:
    """Return a small text file, None when there is none; raises what `checked_file` raises."""
    if checked_file(folder, name, TEXT_LIMIT) is None:
        return None
    try:
        return read_file(folder, name, TEXT_LIMIT).decode("utf-8")
    except UnicodeDecodeError as error:
        raise LoraAdapterError(f"{name} is not UTF-8 text: {error}", where=folder) from error


def _without_waiting(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NONBLOCK)
