"""Adapters' own training data in JSONL files, drawn at about the speed of counting their lines."""

from __future__ import annotations

import gc
import io
import tempfile
from collections import deque
from collections.abc import Generator, Iterator
from contextlib import closing, contextmanager
from itertools import islice
from typing import IO, Any

import orjson
from attrs import Factory, define, field, frozen

from adapters.datasets.raw_lines import BLOCK, LineLocator, LineSpan
from adapters.datasets.source_streams import SourceFile, SourceOpener, reading
from application.ports.datasets import DrawnLine, ParsedLine, Source
from domain.conversations import Rejection, RejectReason, extract_prompt, row_id
from domain.printable import printable
from domain.sampling import reservoir_schedule, seeded, shuffle, shuffled_range

_BOM = b"\xef\xbb\xbf"
_BATCH = 65_536  # lines that are looked for in one further pass; about 10 MB


@frozen
class JsonlSourceReader:
    """A :class:`application.ports.SourceReader` for ShareGPT, OpenAI-style and mapped JSONL files.

    Attributes:
        block: bytes per read; no result depends on it.
    """

    block: int = BLOCK
    _opener: SourceOpener = Factory(SourceOpener)

    @contextmanager
    def open(self, source: Source, *, seed: int, expected: int) -> Iterator[JsonlDraws]:
        """Find a first batch of lines in one pass; see the port for the contract."""
        with self._opener.open(source.path) as file:
            draws = JsonlDraws(source, file, seed, reservoir=expected + expected // 8 + 64, block=self.block)
            with reading(source.path):
                draws.find_first()
            yield draws
            file.check_unchanged()

    @contextmanager
    def read_all(self, source: Source) -> Iterator[Iterator[ParsedLine]]:
        """Parse every line in file order; see the port for the contract."""
        with self._opener.open(source.path) as file:
            with closing(_parse_all(source, file)) as lines:
                yield lines
            file.check_unchanged()


@define
class _Spool:
    """Keeps the bytes of wanted lines of a compressed stream; each line up to just over the limit."""

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
class JsonlDraws:
    """A :class:`application.ports.SourceDraws` over one open file.

    A first batch comes from skip-ahead reservoir sampling in the pass that also counts the lines. When it is used
    up, further batches are taken from a pseudo-random order of the line numbers, one pass each.

    Attributes:
        source: what is drawn from.
        file: its open file.
        seed: decides the order, together with the adapter's name.
        reservoir: lines of the first batch.
        block: bytes per read.
        lines: lines of the file.
    """

    source: Source
    file: SourceFile
    seed: int
    reservoir: int
    block: int
    lines: int = 0
    _first: list[LineSpan] = field(factory=list)
    _first_spool: _Spool | None = None

    def find_first(self) -> None:
        """Fill the first batch and count the lines."""
        rng = seeded(self.seed, "draw", self.source.adapter)
        slots: deque[int] = deque()

        def wanted() -> Iterator[int]:
            for index, slot in reservoir_schedule(self.reservoir, rng):
                slots.append(slot)
                yield index

        for span in self._locate(wanted(), spool := self._new_spool()):
            slot = slots.popleft()
            if slot < len(self._first):
                self._first[slot] = span
            else:
                self._first.append(span)
        self._first_spool = spool
        shuffle(self._first, rng)

    def __iter__(self) -> Iterator[DrawnLine]:
        """Yield every line once, in random order; see the port for the contract."""
        with reading(self.source.path):
            yield from self._draw()

    def _draw(self) -> Iterator[DrawnLine]:
        yield from (self._read(span, self._first_spool) for span in self._first)
        if len(self._first) == self.lines:
            return
        drawn = {span.line for span in self._first}
        order = shuffled_range(self.lines, f"{self.seed}/further/{self.source.adapter}")
        further = (index for index in order if index not in drawn)
        while batch := list(islice(further, max(self.reservoir, _BATCH))):
            spool = self._new_spool()
            spans = {span.line: span for span in self._locate(iter(sorted(batch)), spool)}
            yield from (self._read(spans[index], spool) for index in batch)

    def _new_spool(self) -> _Spool | None:
        return None if self.file.compression is None else _Spool(self.source.line_limit)

    def _locate(self, wanted: Iterator[int], spool: _Spool | None) -> Iterator[LineSpan]:
        """Yield the wanted lines' spans; with a spool, their starts are offsets into it."""
        locator = LineLocator(self.file.rewound(), self.block, spool)
        for span in locator.locate(wanted):
            yield span if spool is None else LineSpan(span.line, spool.start, span.length)
        self.file.check_unchanged()
        self.lines = locator.lines

    def _read(self, span: LineSpan, spool: _Spool | None) -> DrawnLine:
        number = span.line + 1
        fallback = f"{printable(self.source.path.name)}:{number}"
        if span.length > self.source.line_limit:
            return DrawnLine(number, _too_long(span.length, self.source.line_limit), fallback)
        if spool is None:
            raw = self.file.read_at(span.start, span.length)
        else:
            spool.file.seek(span.start)
            raw = spool.file.read(span.length)
        row = _decode(raw.removeprefix(_BOM) if number == 1 else raw)
        if row is None or isinstance(row, Rejection):
            return DrawnLine(number, row, fallback)
        outcome = extract_prompt(row[0], self.source.row_format, self.source.turn)
        return DrawnLine(number, outcome, row_id(row[0]) or fallback)


def _decode(raw: bytes) -> tuple[object] | Rejection | None:
    """Return the parsed row in a tuple of one, why it does not parse, or None for a blank line."""
    try:
        return (orjson.loads(raw),)
    except orjson.JSONDecodeError as error:
        if not raw.strip():
            return None
        if raw.endswith(b"\n"):  # with it, the parser would tell a column of the next line
            return _decode(raw[:-1])
        return Rejection(_reason(raw, error), f"{error.msg}, at column {error.colno}")


def _reason(raw: bytes, error: orjson.JSONDecodeError) -> RejectReason:
    try:
        raw.decode()
    except UnicodeDecodeError:
        return RejectReason.NOT_UTF8
    return RejectReason.LONE_SURROGATE if "surrogate" in error.msg else RejectReason.INVALID_JSON


def _too_long(length: int, limit: int) -> Rejection:
    return Rejection(RejectReason.LINE_TOO_LONG, f"the line has {length} bytes, the limit is {limit}")


def _parse_all(source: Source, file: SourceFile) -> Generator[ParsedLine]:
    raw_stream: Any = file.rewound()
    stream = io.BufferedReader(raw_stream, 1 << 20)
    collecting = gc.isenabled()
    gc.disable()  # rows are trees without cycles; the collector would only look at each of them again
    try:
        with reading(source.path):
            yield from _parse_lines(source, stream)
    finally:
        stream.detach()
        if collecting:
            gc.enable()


def _parse_lines(source: Source, stream: io.BufferedReader[Any]) -> Iterator[ParsedLine]:
    row_format, turn, limit = source.row_format, source.turn, source.line_limit
    number = 0
    while raw := stream.readline(limit + 1):
        number += 1
        if len(raw) > limit and raw[-1] != 10:
            yield number, _too_long(_skip_line(stream, len(raw)), limit)
            continue
        row = _decode(raw.removeprefix(_BOM) if number == 1 else raw)
        if row is None or isinstance(row, Rejection):
            yield number, row
        else:
            yield number, extract_prompt(row[0], row_format, turn)


def _skip_line(stream: io.BufferedReader[Any], length: int) -> int:
    """Read on to the end of the line; return the line's length without its end."""
    while part := stream.readline(1 << 20):
        length += len(part)
        if part[-1] == 10:
            return length - 1
    return length
