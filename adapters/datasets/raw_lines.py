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

_NEWLINE, _SPACE = 10, 32
_MANY = 500  # line ends from which on finding all of a block's at once is faster than one after the other


class ByteStream(Protocol):
    """What is needed of an unbuffered binary file."""

    def readinto(self, buffer: Any, /) -> int | None:
        """Fill the buffer as far as possible; 0 at the end."""
        ...


class Marks(Protocol):
    """Says where other things than lines end; see :class:`adapters.datasets.json_marks.JsonMarks`."""

    def mark(self, octets: Any, is_end: Any) -> int:
        """Set `is_end` where something ends; return how many bytes of the block count."""
        ...

    def is_open(self) -> bool:
        """Whether something begins behind the last end."""
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
        marks: says where rows end that are not lines, or None for line ends.
        lines: lines seen so far; after the pass the lines of the stream, an unterminated last one included.
    """

    stream: ByteStream
    block: int = BLOCK
    keeper: LineKeeper | None = None
    marks: Marks | None = None
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
        ended = True
        while size := self.stream.readinto(buffer):
            if self.marks is None:
                np.equal(octets[:size], _NEWLINE, out=is_end[:size])
            else:
                size = self.marks.mark(octets[:size], is_end[:size])
                if not size:
                    continue
            found = int(np.count_nonzero(is_end[:size]))
            fresh = 0  # where in the buffer the bytes begin that the keeper has not seen
            ends = None
            while index is not None and (end := index - (start is None)) < self.lines + found:
                ends = ends or _LineEnds(buffer, is_end[:size], self.marks is None)
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
            ended = bool(is_end[size - 1])
        if not ended if self.marks is None else self.marks.is_open():
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
    are_newlines: bool = True
    number: int = -1
    at: int = -1

    def seek(self, number: int) -> int:
        """Return where line end `number` (from 0) of the block lies; the block must have that many."""
        if number - self.number > _MANY or not self.are_newlines:
            self.at += 1 + int(np.flatnonzero(self.is_end[self.at + 1 :])[number - self.number - 1])
        else:
            for _ in range(number - self.number):
                self.at = self.buffer.find(b"\n", self.at + 1)
        self.number = number
        return self.at


def filled_lines(stream: ByteStream, block: int = BLOCK, most: int = 1 << 20) -> list[int] | None:
    """Return the numbers (from 0) of the lines that hold more than white space; None for more than `most`."""
    buffer = bytearray(block)
    octets = np.frombuffer(buffer, np.uint8)
    found: list[int] = []
    lines = carried = 0  # carried: letters of the line that the block before left open
    while size := stream.readinto(buffer):
        letters = np.cumsum(octets[:size] > _SPACE)
        ends = np.flatnonzero(octets[:size] == _NEWLINE)
        until = letters[ends] + carried
        found += (np.flatnonzero(np.diff(until, prepend=0)) + lines).tolist()
        if len(found) > most:
            return None
        lines += len(ends)
        carried += int(letters[-1]) - (int(until[-1]) if len(ends) else 0)
    return [*found, lines] if carried else found
