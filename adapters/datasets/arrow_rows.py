"""Parquet and Arrow files, by pyarrow: only the batches that hold drawn rows are turned into Python values."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from itertools import count
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from attrs import define, field

from adapters.datasets.row_files import Parsed
from adapters.datasets.source_streams import SourceFile
from application.ports.datasets import Origin
from domain.conversations import Rejection, RejectReason
from domain.errors import DataRejectedError

_BYTES = 16 << 20  # of a Parquet file, decoded at a time, as far as its row groups tell their size
_LEAST, _MOST = 64, 8192  # rows decoded at a time
_VALUES = 256  # rows turned into Python values at a time

Batches = Iterator[tuple[int, Callable[[], Iterator[Any]]]]
"""Pieces of a file: the number of rows of each, and what reads it as record batches."""


@define
class ArrowRows:
    """A :class:`adapters.datasets.row_files.RowFile` of a table in Parquet or Arrow's file or stream format.

    Attributes:
        file: the open file.
        kind: "Parquet", "Arrow" or "Arrow stream".
    """

    file: SourceFile
    kind: str
    rows: int = 0
    columns: tuple[str, ...] | None = None
    batch: int = 4096  # rows are kept whole
    _source: Any = field(init=False)

    def __attrs_post_init__(self) -> None:
        """Open it by its name where it has one (not mapped: a file that shrinks would end the process)."""
        with self._reading():
            plain = self.file.path.is_file()
            self._source = pa.OSFile(str(self.file.path)) if plain else pa.PythonFile(self.file.file, mode="r")

    @property
    def origin(self) -> Origin:
        """How the file and its rows are called."""
        return Origin(self.file.path, "row")

    def known_rows(self) -> int | None:
        """Return the number of rows if the file tells it; see the protocol."""
        if self.kind != "Parquet":
            return None
        with self._reading():
            return int(pq.ParquetFile(self._source).metadata.num_rows)

    def locate(self, wanted: Iterator[int]) -> Iterator[tuple[int, Parsed]]:
        """Decode what holds wanted rows; row groups without any are passed over unread."""
        with self._reading():
            yield from self._locate(wanted)
        self.file.check_unchanged()

    def read(self, found: tuple[int, Parsed]) -> tuple[int, Parsed]:
        """Return the row as it was found."""
        return found

    def read_all(self) -> Generator[tuple[int, Parsed]]:
        """Yield every row in file order."""
        yield from self.locate(count())

    def _locate(self, wanted: Iterator[int]) -> Iterator[tuple[int, Parsed]]:
        index, first = next(wanted, None), 0
        for size, read in self._pieces():
            if index is not None and index < first + size:
                begin = first
                for batch in read():
                    places = []
                    while index is not None and index < begin + batch.num_rows:
                        places.append(index - begin)
                        index = next(wanted, None)
                    for start in range(0, len(places), _VALUES):
                        some = places[start : start + _VALUES]
                        rows = _values(batch.take(pa.array(some, pa.int64())))
                        yield from ((begin + place + 1, row) for place, row in zip(some, rows, strict=True))
                    begin += batch.num_rows
                    if index is None or index >= first + size:
                        break
            first += size
        self.rows = first

    def _pieces(self) -> Batches:
        self._source.seek(0)
        if self.kind == "Parquet":
            yield from self._row_groups()
        elif self.kind == "Arrow":
            table = pa.ipc.open_file(self._source)
            for number in range(table.num_record_batches):
                yield from self._whole(table.get_batch(number))
        else:
            for batch in pa.ipc.open_stream(self._source):
                yield from self._whole(batch)

    def _row_groups(self) -> Batches:
        table = pq.ParquetFile(self._source)
        wanted = self._names(table.schema_arrow)
        for number in range(table.num_row_groups):
            group = table.metadata.row_group(number)
            size = group.total_byte_size // max(group.num_rows, 1)
            rows = max(_LEAST, min(_MOST, _BYTES // max(size, 1)))

            def read(number: int = number, rows: int = rows) -> Iterator[Any]:
                yield from table.iter_batches(rows, row_groups=[number], columns=wanted, use_threads=False)

            yield group.num_rows, read

    def _whole(self, batch: Any) -> Batches:
        names = self._names(batch.schema)
        yield batch.num_rows, lambda: iter([batch.select(names)])

    def _names(self, schema: Any) -> list[str]:
        """Return the columns to read: those asked for, else all but pictures and other bytes."""
        if self.columns is not None:
            return [name for name in schema.names if name in self.columns]
        return [one.name for one in schema if "binary" not in str(one.type)]

    @contextmanager
    def _reading(self) -> Iterator[None]:
        try:
            yield
        except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
            if isinstance(error, DataRejectedError):
                raise
            what = " ".join(str(error).split())[:200]
            raise DataRejectedError(
                f"is a damaged {self.kind} file: {what}", where=self.file.path, hint="fetch or write it again"
            ) from error


def _values(batch: Any) -> list[Parsed]:
    try:
        return [(row,) for row in batch.to_pylist()]
    except UnicodeDecodeError:
        if batch.num_rows == 1:
            return [Rejection(RejectReason.NOT_UTF8, "the row is not UTF-8 text")]
        return [row for number in range(batch.num_rows) for row in _values(batch.slice(number, 1))]
