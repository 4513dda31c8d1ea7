"""Standard output and standard error that show control characters instead of letting a terminal obey them.

Texts of files, routers, prompts and answers end up on terminals. There, an escape sequence can move the cursor, hide
what was said or change the window's title, and a direction mark can turn a line around. Only what draws our own
progress bars and headings writes past this, see :func:`own_drawing`.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TextIO, cast

from domain.printable import shown

_BARS = ("\r", "\x1b[A")
"""How other libraries' progress bars begin a line again, and go one up: alone, or before their text."""


class PlainStream:
    """A text stream in front of another one; without its ``buffer``, so that nothing gets around it."""

    def __init__(self, stream: TextIO) -> None:
        self.stream = stream

    def write(self, text: str) -> int:
        """Write the text with control characters as ``\\uXXXX``, which is also how JSON may write them."""
        own = next((mark for mark in _BARS if text.startswith(mark)), "")
        self.stream.write(own + shown(text[len(own) :]))
        return len(text)

    def writelines(self, lines: Any) -> None:
        """Write every line."""
        for line in lines:
            self.write(line)

    def __getattr__(self, name: str) -> Any:
        if name == "buffer":
            raise AttributeError(name)
        return getattr(self.stream, name)


@contextmanager
def plain_streams() -> Iterator[None]:
    """Put a :class:`PlainStream` before both streams of the process."""
    before = sys.stdout, sys.stderr
    for stream in before:
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")  # for terminals that are not UTF-8
    sys.stdout, sys.stderr = (cast(TextIO, PlainStream(stream)) for stream in before)
    try:
        yield
    finally:
        sys.stdout, sys.stderr = before


def own_drawing(stream: TextIO) -> TextIO:
    """Return what lies behind a :class:`PlainStream`, for drawing; texts of others need :func:`shown` first."""
    return stream.stream if isinstance(stream, PlainStream) else stream
