"""JSON Lines, JSON arrays and JSON values one after the other: rows found in the bytes, parsed only when drawn."""

from __future__ import annotations

import gc
import io
import tempfile
from collections.abc import Generator, Iterator
from itertools import count
from typing import IO, Any

from attrs import Factory, define, frozen

from adapters.datasets.json_marks import JsonMarks
from adapters.datasets.raw_lines import BLOCK, ByteStream, LineLocator, LineSpan, filled_lines
from adapters.datasets.row_files import Parsed, parse_json, too_long
from adapters.datasets.source_streams import SourceFile
from application.ports.datasets import Origin
from domain.errors import DataRejectedError

_BOM = b"\xef\xbb\xbf"


@define
class _Spool:
    """Keeps the bytes of wanted rows of a compressed stream; each row up to just over the limit."""

    limit: int
    file: IO[bytes] = Factory(lambda: tempfile.SpooledTemporaryFile(max_size=32 << 20))  # noqa: SIM115
    start: int = 0
    stop: int = 0

    def begin(self) -> None:
        self.start = self.stop

    def add(self, part: memoryview) -> None:
        room = self.limit + 1 - (self.stop - self.start)
        self.stop += self.file.write(part[: max(room, 0)])


@define
class _OneRow:
    """Keeps the bytes of one row at a time, up to just over the limit."""

    limit: int
    raw: bytearray = Factory(bytearray)

    def begin(self) -> None:
        self.raw.clear()

    def add(self, part: memoryview) -> None:
        self.raw += part[: max(self.limit + 1 - len(self.raw), 0)]


@frozen
class _Found:
    span: LineSpan
    spool: _Spool | None


@define
class JsonLineRows:
    """A :class:`adapters.datasets.row_files.RowFile` of JSON Lines.

    Attributes:
        file: the open file.
        limit: bytes above which a row is rejected unread.
        block: bytes per read; no result depends on it.
    """

    file: SourceFile
    limit: int
    block: int = BLOCK
    rows: int = 0
    columns: tuple[str, ...] | None = None
    batch: int = 65_536
    kind: str = "JSON Lines"

    @property
    def origin(self) -> Origin:
        """How the file and its rows are called."""
        return Origin(self.file.path)

    def known_rows(self) -> int | None:
        """Return the number of rows if the file tells it; see the protocol."""
        return None

    def locate(self, wanted: Iterator[int]) -> Iterator[_Found]:
        """Find rows in one pass over the bytes; those of a compressed stream are kept in a temporary file."""
        spool = None if self.file.compression is None else _Spool(self.limit)
        stream, offset = self._begin()
        locator = LineLocator(stream, self.block, spool, self._marks())
        for span in locator.locate(wanted):
            start = span.start + offset if spool is None else spool.start
            yield _Found(LineSpan(span.line, start, span.length), spool)
        self._check(locator)
        self.file.check_unchanged()
        self.rows = locator.lines

    def read(self, found: _Found) -> tuple[int, Parsed]:
        """Parse a row; see the protocol."""
        span, spool = found.span, found.spool
        if span.length > self.limit:
            return span.line + 1, too_long(span.length, self.limit)
        if spool is None:
            raw = self.file.read_at(span.start, span.length)
        else:
            spool.file.seek(span.start)
            raw = spool.file.read(span.length)
        return span.line + 1, self._parse(span.line, raw)

    def read_all(self) -> Generator[tuple[int, Parsed]]:
        """Parse every row in file order."""
        raw_stream: Any = self._begin()[0]
        stream = io.BufferedReader(raw_stream, 1 << 20)
        collecting = gc.isenabled()
        gc.disable()  # rows are trees without cycles; the collector would only look at each of them again
        try:
            yield from self._read_lines(stream)
        finally:
            stream.detach()
            if collecting:
                gc.enable()

    def _read_lines(self, stream: io.BufferedReader[Any]) -> Iterator[tuple[int, Parsed]]:
        number = 0
        while raw := stream.readline(self.limit + 1):
            number += 1
            if len(raw) > self.limit and raw[-1] != 10:
                yield number, too_long(_skip_line(stream, len(raw)), self.limit)
            else:
                yield number, self._parse(number - 1, raw)

    def filled_lines(self) -> list[int] | None:
        """Return the numbers (from 0) of the lines with more than white space; None when there are very many."""
        return filled_lines(self.file.rewound(), self.block) if self._marks() is None else None

    def _begin(self) -> tuple[ByteStream, int]:
        """Return the bytes of the rows and where in the file they begin."""
        return self.file.rewound(), 0

    def _marks(self) -> JsonMarks | None:
        return None

    def _check(self, locator: LineLocator) -> None:
        """Raise when the pass has shown that the file is not of this kind."""

    def _parse(self, index: int, raw: bytes) -> Parsed:
        return parse_json(raw.removeprefix(_BOM) if index == 0 else raw)


@define
class JsonValueRows(JsonLineRows):
    """A :class:`adapters.datasets.row_files.RowFile` of one JSON array, or of values one after the other.

    Attributes:
        in_array: whether it is an array.
        skip: bytes before the first value: a byte order mark, and the array's bracket.
        last: the bracket that ends each value of those one after the other; it counts as the mark between them.
    """

    in_array: bool = True
    skip: int = 1
    last: bytes = b""
    kind: str = "JSON array"

    @property
    def origin(self) -> Origin:
        """How the file and its rows are called."""
        return Origin(self.file.path, "row")

    def read_all(self) -> Generator[tuple[int, Parsed]]:
        """Parse every row in file order."""
        kept = _OneRow(self.limit)
        locator = LineLocator(self._begin()[0], self.block, kept, self._marks())
        for span in locator.locate(count()):
            long = span.length > self.limit
            parsed = too_long(span.length, self.limit) if long else self._parse(span.line, bytes(kept.raw))
            yield span.line + 1, parsed
        self._check(locator)

    def _begin(self) -> tuple[ByteStream, int]:
        stream, left = self.file.rewound(), self.skip
        while left and (read := stream.readinto(bytearray(left))):
            left -= read
        return stream, self.skip

    def _marks(self) -> JsonMarks:
        return JsonMarks(self.in_array)

    def _check(self, locator: LineLocator) -> None:
        marks = locator.marks
        if isinstance(marks, JsonMarks) and marks.closed and marks.is_open():
            raise DataRejectedError(
                "has more after the end of its JSON array",
                where=self.file.path,
                hint="write one array, or JSON Lines",
            )

    def _parse(self, index: int, raw: bytes) -> Parsed:
        return parse_json(raw + self.last if raw.strip() else raw)


def _skip_line(stream: io.BufferedReader[Any], length: int) -> int:
    """Read on to the end of the line; return the line's length without its end."""
    while part := stream.readline(1 << 20):
        length += len(part)
        if part[-1] == 10:
            return length - 1
    return length
