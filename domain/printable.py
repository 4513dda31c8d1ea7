"""Text that is safe to show: file names on POSIX are bytes, and texts of others may hold control characters."""

from __future__ import annotations

import re
from pathlib import PurePath

_OBEYED = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
"""What terminals obey or cannot show: control characters but tab and line feed, direction marks, lone surrogates."""


def shown(text: str) -> str:
    """Return the text with every character that a terminal would obey as ``\\uXXXX``."""
    return _OBEYED.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def inline(text: str) -> str:
    """Return the text as it may stand in a line of Markdown or HTML without being taken for markup."""
    line = re.sub(r"([\\`*_{}\[\]<>|#!$&~])", r"\\\1", " ".join(shown(text).split()))
    return line.replace("\\<", "&lt;").replace("\\>", "&gt;").replace("\\&", "&amp;")


def code(text: str) -> str:
    """Return the text as a span of code in a line, or a table's cell, of Markdown."""
    line = " ".join(shown(text).split()).replace("`", "'").replace("|", "\\|")
    return f"`{line}`"


def printable(path: PurePath | str) -> str:
    """Return the path with bytes that are not UTF-8 shown as ``\\xff``, so that JSON and terminals take it."""
    return str(path).encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
