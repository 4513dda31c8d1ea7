"""What kind of file a source is, told by its first bytes and never by its name alone."""

from __future__ import annotations

import csv
import io
import re

import orjson

from adapters.datasets.csv_rows import NAMES, CsvRows
from adapters.datasets.json_marks import JsonMarks
from adapters.datasets.raw_lines import LineLocator, LineSpan
from adapters.datasets.row_files import RowFile
from adapters.datasets.source_streams import SourceFile
from adapters.datasets.text_rows import JsonLineRows, JsonValueRows
from domain.errors import DataRejectedError

_HEAD = 256 * 1024
_BOM = b"\xef\xbb\xbf"
_TABLES = {b"PAR1": "Parquet", b"ARROW1": "Arrow", b"\xff\xff\xff\xff": "Arrow stream"}
_FOREIGN = (
    (b"PK\x03\x04", "a ZIP archive (or a spreadsheet, or numpy arrays)", "unpack or export it"),
    (b"BZh", "compressed with bzip2", "unpack it, or pack it with gzip or zstd"),
    (b"\xfd7zXZ", "compressed with xz", "unpack it, or pack it with gzip or zstd"),
    (b"7z\xbc\xaf", "a 7-Zip archive", "unpack it"),
    (b"SQLite format 3", "an SQLite database", "export its table as CSV"),
    (b"\x89HDF", "an HDF5 file", "export it as Parquet"),
    (b"\x93NUMPY", "a numpy array", "write JSON Lines"),
    (b"Obj\x01", "an Avro file", "convert it to Parquet"),
    (b"ORC", "an ORC file", "convert it to Parquet"),
    (b"%PDF", "a PDF", "write JSON Lines"),
    (b"\x80\x02", "a pickle, which is never loaded", "write JSON Lines or Parquet"),
    (b"\x80\x03", "a pickle, which is never loaded", "write JSON Lines or Parquet"),
    (b"\x80\x04", "a pickle, which is never loaded", "write JSON Lines or Parquet"),
    (b"\x80\x05", "a pickle, which is never loaded", "write JSON Lines or Parquet"),
    (b"version https://git-lfs", "a Git LFS pointer, not the data itself", "fetch it: git lfs pull"),
    (b"<!doctype html", "a web page", "download the file itself"),
    (b"<html", "a web page", "download the file itself"),
    (b"\xff\xfe", "UTF-16 text", "convert it: iconv -f UTF-16 -t UTF-8"),
    (b"\xfe\xff", "UTF-16 text", "convert it: iconv -f UTF-16 -t UTF-8"),
)
_COLUMN = re.compile(r"""[^\W\d][^\n{}"]{0,63}""")


def open_rows(file: SourceFile, *, limit: int, block: int) -> RowFile:
    """Return the rows of an open file.

    Raises:
        DataRejectedError: it is of a kind that is not read; the message names it and the way out.
    """
    head = _read_head(file)
    for magic, kind in _TABLES.items():
        if head.startswith(magic):
            return _table(file, kind)
    for magic, what, hint in _FOREIGN:
        if head[: len(magic)].lower() == magic.lower():
            raise DataRejectedError(f"is {what}", where=file.path, hint=hint)
    if head[257:262] == b"ustar":
        raise DataRejectedError("is a tar archive", where=file.path, hint="unpack it, and name its folder")
    return _json_values(file, head, limit, block) or _csv(file, head, limit) or JsonLineRows(file, limit, block)


def _read_head(file: SourceFile) -> bytes:
    stream, head, buffer = file.rewound(), b"", bytearray(_HEAD)
    while len(head) < _HEAD and (size := stream.readinto(buffer)):
        head += buffer[:size]
    return head


def _table(file: SourceFile, kind: str) -> RowFile:
    if file.compression is not None:
        raise DataRejectedError(f"is {kind} inside {file.compression}", where=file.path, hint="unpack it")
    from adapters.datasets.arrow_rows import ArrowRows  # half a second of imports, for tables only

    return ArrowRows(file, kind)


def _json_values(file: SourceFile, head: bytes, limit: int, block: int) -> RowFile | None:
    """Return the rows of an array or of values one after the other; None when lines are the better reading."""
    content = head.removeprefix(_BOM).lstrip()
    line, _, rest = content.partition(b"\n")
    if content[:1] not in (b"[", b"{") or (rest.strip() and _is_json(line)):
        return None
    if content[:1] == b"[":
        return JsonValueRows(file, limit, block, in_array=True, skip=len(head) - len(content) + 1)
    first = next(LineLocator(io.BytesIO(content), marks=JsonMarks(False)).locate(iter([0])), None)
    if first is None or not _follows_another(content, first):
        return None
    skip = len(head) - len(content)
    return JsonValueRows(
        file, limit, block, in_array=False, skip=skip, last=b"}", kind="JSON values, one after another"
    )


def _follows_another(content: bytes, first: LineSpan) -> bool:
    """Tell whether the first value is one, and spreads over lines or has another one behind it on its line."""
    value = content[: first.length + 1]
    behind = content[first.length + 1 :].lstrip(b" \t")
    return (b"\n" in value or behind[:1] == b"{") and _is_json(value)


def _is_json(raw: bytes) -> bool:
    try:
        orjson.loads(raw)
    except orjson.JSONDecodeError:
        return False
    return True


def _csv(file: SourceFile, head: bytes, limit: int) -> RowFile | None:
    """Return the rows of a table with a header of names; None for other text."""
    lines = head.removeprefix(_BOM).decode(errors="replace").lstrip("\r\n")
    named = {".tsv": "\t", ".csv": ","}.get(next((one for one in reversed(file.path.suffixes) if one in _PLAIN), ""))
    delimiters = sorted(NAMES, key=lambda one: -lines.split("\n", 1)[0].count(one))
    for delimiter in delimiters:
        header, second = _first_rows(lines, delimiter)
        one_column = len(header) == 1 and delimiter == named
        distinct = len({*header}) == len(header) and all(_COLUMN.fullmatch(name.strip()) for name in header)
        if distinct and (len(header) > 1 or one_column) and (named or len(second or header) == len(header)):
            return CsvRows(file, limit, delimiter)
    return None


_PLAIN = (".tsv", ".csv")


def _first_rows(lines: str, delimiter: str) -> tuple[list[str], list[str]]:
    """Return the first two rows; empty where there is none, or what stands there is no row of a table."""
    rows = csv.reader(io.StringIO(lines), delimiter=delimiter)
    try:
        return next(rows, []), next(rows, [])
    except csv.Error:
        return [], []
