"""What a file of rows offers, whatever its kind, so that rows are drawn from all kinds in one way."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from typing import Any, Protocol

import orjson

from adapters.datasets.source_streams import SourceFile
from application.ports.datasets import Origin
from domain.conversations import Rejection, RejectReason

Parsed = tuple[Any] | Rejection | None
"""A row in a tuple of one, why it does not parse, or None for a blank line."""


class RowFile(Protocol):
    """One open file, read in passes.

    Attributes:
        columns: the only columns of a row that will be looked at, or None for all.
    """

    columns: tuple[str, ...] | None

    @property
    def file(self) -> SourceFile:
        """The file itself."""
        ...

    @property
    def origin(self) -> Origin:
        """How the file and its rows are called."""
        ...

    @property
    def kind(self) -> str:
        """What the file is, in words."""
        ...

    @property
    def rows(self) -> int:
        """Rows of the file, known after a pass."""
        ...

    @property
    def batch(self) -> int:
        """Rows that one further pass may look for; bounds memory."""
        ...

    def known_rows(self) -> int | None:
        """Return the number of rows where the file tells it without being read, else None."""
        ...

    def locate(self, wanted: Iterator[int]) -> Iterator[Any]:
        """Go over the whole file and yield something for each wanted row (from 0, ascending) to `read` it by."""
        ...

    def read(self, found: Any) -> tuple[int, Parsed]:
        """Return a located row and its number, from 1."""
        ...

    def read_all(self) -> Generator[tuple[int, Parsed]]:
        """Yield every row in file order with its number."""
        ...


def parse_json(raw: bytes) -> Parsed:
    """Parse the text of one row."""
    try:
        return (orjson.loads(raw),)
    except orjson.JSONDecodeError as error:
        if not raw.strip():
            return None
        if raw.endswith(b"\n"):  # with it, the parser would tell a column of the next line
            return parse_json(raw[:-1])
        return Rejection(_reason(raw, error), f"{error.msg}, at column {error.colno}")


def too_long(length: int, limit: int) -> Rejection:
    """Return the rejection of a row of `length` bytes."""
    return Rejection(RejectReason.LINE_TOO_LONG, f"the line has {length} bytes, the limit is {limit}")


def _reason(raw: bytes, error: orjson.JSONDecodeError) -> RejectReason:
    try:
        raw.decode()
    except UnicodeDecodeError:
        return RejectReason.NOT_UTF8
    return RejectReason.LONE_SURROGATE if "surrogate" in error.msg else RejectReason.INVALID_JSON
