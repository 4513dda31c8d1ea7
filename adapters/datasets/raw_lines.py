"""Finding lines in a stream of bytes without looking at those that nobody wants.

The stream is read once through a small buffer; line ends are counted by vectorised comparison, so that a line that
is passed over costs no Python at all. Lines end at ``\\n`` only.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple, Protocol

import numpy as np
from attrs import define

BLOCK = 128 * 1024
"""Bytes per read: small enough for the second-level cache, large enough that Python's share is small."""

_NEWLINE = 10
_MANY = 500  # line ends from which on finding all of a block's at once is faster than one after the other


class ByteStream(Protocol):
    """What is needed of an unbuffered binary file."""

    def readinto(self, buffer: Any, /) -> int | None:
        """Fill the buffer as far as possible; 0 at the end."""
        ...


class LineKeeper(Protocol):
    """Gets the bytes of wanted lines where the stream cannot be read again at an offset."""

    def begin(self) -> None:
        """A wanted line begins."""
        ...

    def add(self, part: memoryview) -> None:
        """Here is the next part of it."""
        ...


class LineSpan(NamedTuple):
    """Where a line lies; a named tuple, since thousands are made for every hundred that are kept.

    Attributes:
        line: number of the line, from 0.
        start: offset of its first byte in the stream.
        length: its bytes, line end excluded.
    """

    line: int
    start: int
    length: int


@define
class LineLocator:
    """One pass over a stream.

    Attributes:
        stream: the bytes, from their beginning.
        block: bytes per read; the result does not depend on it.
        keeper: gets the bytes of the wanted lines, or None.
        lines: lines seen so far; after the pass the lines of the stream, an unterminated last one included.
    """

    stream: ByteStream
    block: int = BLOCK
    keeper: LineKeeper | None = None
    lines: int = 0

    def locate(self, wanted: Iterator[int]) -> Iterator[LineSpan]:
        """Yield the spans of the wanted lines and read the stream to its end.

        Args:
            wanted: line numbers from 0, strictly ascending, finite or not; the next is taken only after
                the span before was used.
        """
        buffer = bytearray(self.block)
        view, octets, is_end = memoryview(buffer), np.frombuffer(buffer, np.uint8), np.empty(self.block, np.bool_)
        index = next(wanted, None)
        start = 0 if index == 0 else None  # of the wanted line, once it is known
        if start == 0:
            self._begin()
        base = 0  # offset of the buffer in the stream
        last = _NEWLINE
        while size := self.stream.readinto(buffer):
            np.equal(octets[:size], _NEWLINE, out=is_end[:size])
            found = int(np.count_nonzero(is_end[:size]))
            fresh = 0  # where in the buffer the bytes begin that the keeper has not seen
            ends = None
            while index is not None and (end := index - (start is None)) < self.lines + found:
                ends = ends or _LineEnds(buffer, is_end[:size])
                at = ends.seek(end - self.lines)
                if start is not None:
                    self._keep(view[fresh:at])
                    yield LineSpan(index, start, base + at - start)
                    previous, index = index, next(wanted, None)
                    start = None
                    if index != previous + 1:
                        continue
                start, fresh = base + at + 1, at + 1
                self._begin()
            if start is not None:
                self._keep(view[fresh:size])
            self.lines += found
            base += size
            last = buffer[size - 1]
        if last != _NEWLINE:
            self.lines += 1
            if index == self.lines - 1 and start is not None:
                yield LineSpan(index, start, base - start)

    def _begin(self) -> None:
        if self.keeper is not None:
            self.keeper.begin()

    def _keep(self, part: memoryview) -> None:
        if self.keeper is not None:
            self.keeper.add(part)


@define
class _LineEnds:
    """The line ends of one block, looked for in ascending order; `at` is where number `number` lies."""

    buffer: bytearray
    is_end: Any
    number: int = -1
    at: int = -1

    def seek(self, number: int) -> int:
        """Return where line end `number` (from 0) of the block lies; the block must have that many."""
        if number - self.number > _MANY:
            self.at += 1 + int(np.flatnonzero(self.is_end[self.at + 1 :])[number - self.number - 1])
        else:
            for _ in range(number - self.number):
                self.at = self.buffer.find(b"\n", self.at + 1)
        self.number = number
        return self.at
