"""CSV and TSV files with a header."""

from __future__ import annotations

import csv
import io
from collections.abc import Generator, Iterator
from typing import Any

from attrs import define

from adapters.datasets.row_files import Parsed
from adapters.datasets.source_streams import SourceFile
from application.ports.datasets import Origin
from domain.conversations import Rejection, RejectReason
from domain.errors import DataRejectedError

NAMES = {",": "CSV", "\t": "TSV", ";": "CSV with semicolons", "|": "CSV with bars"}


@define
class CsvRows:
    """A :class:`adapters.datasets.row_files.RowFile` of a table as text; empty fields are absent.

    Attributes:
        file: the open file.
        limit: characters above which a field is rejected.
        delimiter: what stands between fields.
    """

    file: SourceFile
    limit: int
    delimiter: str = ","
    rows: int = 0
    columns: tuple[str, ...] | None = None
    batch: int = 4096  # rows are kept whole

    @property
    def kind(self) -> str:
        """What the file is, in words."""
        return NAMES[self.delimiter]

    @property
    def origin(self) -> Origin:
        """How the file and its rows are called."""
        return Origin(self.file.path, "row")

    def known_rows(self) -> int | None:
        """Return the number of rows if the file tells it; see the protocol."""
        return None

    def locate(self, wanted: Iterator[int]) -> Iterator[tuple[int, Parsed]]:
        """Read the whole table; quotes may hold line ends, so that rows cannot be told from bytes alone."""
        index, number = next(wanted, None), 0
        for number, row in self.read_all():
            if number - 1 == index:
                yield number, row
                index = next(wanted, None)
        self.file.check_unchanged()
        self.rows = number

    def read(self, found: tuple[int, Parsed]) -> tuple[int, Parsed]:
        """Return the row as it was found."""
        return found

    def read_all(self) -> Generator[tuple[int, Parsed]]:
        """Yield every row below the header as an object of texts."""
        raw: Any = self.file.rewound()
        text = io.TextIOWrapper(
            io.BufferedReader(raw, 1 << 20), encoding="utf-8-sig", errors="surrogateescape", newline=""
        )
        before = csv.field_size_limit(self.limit)
        try:
            rows = csv.reader(text, delimiter=self.delimiter)
            yield from enumerate(self._parsed(rows, self._header(rows)), start=1)
        finally:
            csv.field_size_limit(before)
            text.detach().detach()

    def _header(self, rows: Iterator[list[str]]) -> list[str]:
        try:
            return [name.strip() for name in next(rows, [])]
        except csv.Error as error:
            raise DataRejectedError(f"has no readable header: {error}", where=self.file.path) from error

    def _parsed(self, rows: Iterator[list[str]], names: list[str]) -> Iterator[Parsed]:
        while True:
            try:
                fields = next(rows)
            except StopIteration:
                return
            except csv.Error as error:
                yield Rejection(RejectReason.INVALID_ROW, str(error))
                continue
            yield _row(fields, names)


def _row(fields: list[str], names: list[str]) -> Parsed:
    if not any(fields):
        return None
    if len(fields) != len(names):
        return Rejection(RejectReason.INVALID_ROW, f"the row has {len(fields)} fields, the header {len(names)}")
    if any("\udc80" <= letter <= "\udcff" for field in fields if not field.isascii() for letter in field):
        return Rejection(RejectReason.NOT_UTF8, "the row is not UTF-8 text")
    return ({name: field or None for name, field in zip(names, fields, strict=True)},)
