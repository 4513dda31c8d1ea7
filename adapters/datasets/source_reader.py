"""Adapters' own training data in files of every kind that is read, drawn without reading what nobody wants."""

from __future__ import annotations

from collections import Counter
from collections.abc import Generator, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from itertools import islice
from math import isqrt
from shlex import quote
from typing import Any

from attrs import Factory, evolve, frozen

from adapters.datasets.drawing import FileDraws, ShardDraws
from adapters.datasets.file_kinds import open_rows
from adapters.datasets.raw_lines import BLOCK
from adapters.datasets.row_files import RowFile
from adapters.datasets.source_files import source_files
from adapters.datasets.source_streams import SourceOpener, reading
from application.ports.datasets import Origin, ParsedLine, Source, SourceDraws
from domain.conversations import DEFAULT_FORMAT, Rejection, RejectReason, RowFormat, extract_prompt
from domain.row_shapes import SAMPLE, describe_columns, describe_shape, detect_shape, suggest_columns


@frozen
class FileSourceReader:
    """A :class:`application.ports.SourceReader` for files: JSON Lines, JSON, CSV, TSV, Parquet and Arrow.

    Attributes:
        block: bytes per read; no result depends on it.
    """

    block: int = BLOCK
    _opener: SourceOpener = Factory(SourceOpener)

    @contextmanager
    def open(self, source: Source, *, seed: int, expected: int) -> Iterator[SourceDraws]:
        """Find a first batch of rows in one pass over each file; see the port for the contract."""
        with self._rows(source) as (known, files):
            reservoir = expected + expected // 8 + 64
            whole = sum(file.file.size for file in files) or 1
            shards = []
            for number, file in enumerate(files):
                names = (source.adapter,) if len(files) == 1 else (source.adapter, str(number))
                share = -(-reservoir * file.file.size // whole)
                some = share + 3 * isqrt(share) + 8  # nearly always enough; when not, a further pass finds more
                shards.append(FileDraws(known, file, seed, names, min(some, reservoir)))
                shards[-1].find_first()
            yield shards[0] if len(shards) == 1 else ShardDraws(known, shards, seed)
            for file in files:
                file.file.check_unchanged()

    @contextmanager
    def read_all(self, source: Source) -> Iterator[Iterator[ParsedLine]]:
        """Parse every row in file order; see the port for the contract."""
        with self._rows(source) as (known, files):
            with closing(_parse_all(known, files)) as lines:
                yield lines
            for file in files:
                file.file.check_unchanged()

    @contextmanager
    def read_whole(
        self, source: Source
    ) -> Iterator[tuple[Source, Iterator[tuple[int, tuple[Any] | Rejection, Origin]]]]:
        """Give the source with its rows' format, and every row with all its columns, in file order."""
        with self._rows(source) as (known, files):
            for file in files:
                file.columns = None
            with closing(_parsed(files)) as rows:
                yield known, rows

    @contextmanager
    def _rows(self, source: Source) -> Iterator[tuple[Source, list[RowFile]]]:
        """Open the source's files and tell in which format their rows are."""
        with ExitStack() as stack:
            files: list[RowFile] = []
            for path in [file for named in source.paths for file in source_files(named)]:
                file = stack.enter_context(self._opener.open(path))
                with reading(path):
                    files.append(open_rows(file, limit=source.line_limit, block=self.block))
            known = _known(source, files)
            for one in files:
                formats = (known.format, *known.format.otherwise)
                answers = [name for each in formats for name in each.answers] if source.keep_rows else []
                one.columns = (*(name for each in formats for name in each.columns), *answers, "id")
            yield known, files


def _known(source: Source, files: Sequence[RowFile]) -> Source:
    """Return the source with the format of its rows, told by the first of each file, and with words for it."""
    head: list[Any] = []
    formats: dict[RowFormat, str] = {}
    for file in files if len(files) <= SAMPLE else files[:: len(files) // SAMPLE]:
        with reading(file.origin.path), closing(file.read_all()) as rows:
            some = [row for _, row in islice(rows, SAMPLE)]
        parsed = [row[0] for row in some if isinstance(row, tuple)]
        row_format = source.row_format or detect_shape(parsed)
        if shape := describe_shape(row_format, parsed):
            formats.setdefault(row_format, shape)
        head += some
    first, *others = formats or [source.row_format or DEFAULT_FORMAT]
    known = evolve(
        source,
        row_format=evolve(first, otherwise=tuple(others)) if others else first,
        read_as=_described(files, "; ".join(formats.values())),
    )
    parsed = [row[0] for row in head if isinstance(row, tuple)]
    if any(_of_unknown_speaker(row, known.format) for row in parsed):
        return evolve(known, advice=_advice(known, files, head, parsed), advised=RejectReason.UNKNOWN_ROLE)
    return known if formats else evolve(known, advice=_advice(known, files, head, parsed))


def _of_unknown_speaker(row: Any, row_format: RowFormat) -> bool:
    found = extract_prompt(row, row_format)
    return isinstance(found, Rejection) and found.reason is RejectReason.UNKNOWN_ROLE


def _described(files: Sequence[RowFile], shape: str) -> str:
    kinds = Counter(_packed(file) for file in files)
    one = len(files) == 1
    words = ", ".join(kind if one else f"{number} × {kind}" for kind, number in kinds.items())
    return f"{words}; {shape}" if shape else words


def _packed(file: RowFile) -> str:
    return f"{file.kind} in {file.file.compression}" if file.file.compression else file.kind


def _advice(source: Source, files: Sequence[RowFile], head: Sequence[Any], parsed: Sequence[Any]) -> str:
    """Return what to do when none of the first rows gives a prompt, or one has a speaker whom nobody knows."""
    if not head:
        return ""
    if columns := describe_columns(parsed):
        found = f"read as {_packed(files[0])}; its columns: {columns}"
        what, choices = suggest_columns(parsed, source.format)
        adapter = f"{source.adapter}:" if source.adapter else ""
        said = " or ".join(f"--columns {quote(adapter + names)}" for names in choices)
        return f"{found}. {what}: {said}" if said else f"{found}. {what}"
    first = next((row for row in head if isinstance(row, Rejection)), None)
    if first is None:
        return "the file holds nothing but blank lines" if not parsed else "rows must be objects"
    kind = _packed(files[0])
    return f"read as {kind}, but its first rows cannot be read so; JSON, CSV, TSV, Parquet and Arrow are accepted"


def _parsed(files: Sequence[RowFile]) -> Generator[tuple[int, tuple[Any] | Rejection, Origin]]:
    for file in files:
        with reading(file.origin.path), closing(file.read_all()) as rows:
            yield from ((number, row, file.origin) for number, row in rows if row is not None)


def _parse_all(source: Source, files: Sequence[RowFile]) -> Generator[ParsedLine]:
    row_format, turn = source.format, source.turn
    for file in files:
        origin: Origin = file.origin
        with reading(origin.path):
            for number, row in file.read_all():
                if type(row) is tuple:
                    yield number, extract_prompt(row[0], row_format, turn), origin
                else:
                    yield number, row, origin  # type: ignore[misc]  # a rejection, or None
