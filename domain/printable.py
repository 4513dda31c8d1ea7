"""Paths as text that can always be written: file names on POSIX are bytes, not text."""

from __future__ import annotations

from pathlib import PurePath


def printable(path: PurePath | str) -> str:
    """Return the path with bytes that are not UTF-8 shown as ``\\xff``, so that JSON and terminals take it."""
    return str(path).encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
