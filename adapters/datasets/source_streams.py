"""Opening a file of source data: plain, gzip, Zstandard, standard input or a pipe.

Compression is recognised by the first bytes, not by the suffix. Standard input and pipes can be read only once, so
they are copied to an unnamed temporary file first.
"""

from __future__ import annotations

import gzip
import os
import shutil
import stat
import sys
import tempfile
import zlib
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO, Any

import zstandard
from attrs import Factory, define

from adapters.datasets.raw_lines import ByteStream
from domain.errors import DataRejectedError, MissingFileError, MoeRouterError, StorageError

_GZIP, _ZSTD = b"\x1f\x8b", b"\x28\xb5\x2f\xfd"


@define
class SourceFile:
    """An open source.

    Attributes:
        path: as the user named it.
        file: the unbuffered file behind it.
        compression: "gzip", "zstd" or None.
    """

    path: Path
    file: IO[bytes]
    compression: str | None
    _state: tuple[int, int]

    def rewound(self) -> ByteStream:
        """Return the decompressed bytes from the beginning."""
        self.file.seek(0)
        if self.compression == "gzip":
            return gzip.GzipFile(fileobj=self.file, mode="rb")
        if self.compression == "zstd":
            return zstandard.ZstdDecompressor().stream_reader(self.file, read_across_frames=True, closefd=False)
        return self.file  # type: ignore[return-value]  # unbuffered: a FileIO, which has readinto

    def read_at(self, start: int, length: int) -> bytes:
        """Return bytes of an uncompressed file."""
        return os.pread(self.file.fileno(), length, start)

    @property
    def size(self) -> int:
        """Bytes of the file, packed as it is."""
        return self._state[0]

    def check_unchanged(self) -> None:
        """Raise DataRejectedError when the file was written to since it was opened."""
        if _state(self.file) != self._state:
            raise DataRejectedError("the file changed while it was being read", where=self.path, hint="run again")


@define
class SourceOpener:
    """Opens sources; remembers what came through standard input or a pipe, so that it can be opened again."""

    _copies: dict[str, IO[bytes]] = Factory(dict)

    @contextmanager
    def open(self, path: Path) -> Iterator[SourceFile]:
        """Open a source; raises MissingFileError or StorageError."""
        with ExitStack() as stack:
            with reading(path):
                file = stack.enter_context(self._file(path))
                head = os.pread(file.fileno(), 4, 0)
            compression = "gzip" if head[:2] == _GZIP else "zstd" if head == _ZSTD else None
            yield SourceFile(path, file, compression, _state(file))

    @contextmanager
    def _file(self, path: Path) -> Iterator[IO[bytes]]:
        if (copy := self._copies.get(str(path))) is not None:
            yield copy
        elif str(path) == "-":
            yield self._copy(path, sys.stdin.buffer)
        else:
            mode = _mode(path)
            if stat.S_ISFIFO(mode):
                with path.open("rb") as pipe:
                    yield self._copy(path, pipe)
            elif stat.S_ISREG(mode):
                with path.open("rb", buffering=0) as file:
                    yield file
            else:
                kind = "a folder" if stat.S_ISDIR(mode) else "a device"
                raise MissingFileError(f"is {kind}, not a file", where=path, hint="name a JSONL file")

    def _copy(self, path: Path, stream: Any) -> IO[bytes]:
        copy = tempfile.TemporaryFile(buffering=0)  # noqa: SIM115 - lives as long as this opener
        shutil.copyfileobj(stream, copy, 1 << 20)
        self._copies[str(path)] = copy
        return copy


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Turn errors of reading and decompressing into the user's errors.

    To be put around each piece of reading, not around the whole time that a source is open: while several are
    open, an error of one must not be reported as another's.
    """
    try:
        yield
    except MoeRouterError:  # some of them are OSErrors, too
        raise
    except (gzip.BadGzipFile, zlib.error, EOFError, zstandard.ZstdError) as error:
        raise DataRejectedError(f"damaged compression: {error}", where=path, hint="fetch the file again") from error
    except OSError as error:
        raise StorageError(f"cannot read: {error.strerror or error}", where=path) from error


def _mode(path: Path) -> int:
    try:
        return path.stat().st_mode
    except (FileNotFoundError, NotADirectoryError):
        raise MissingFileError("no such file", where=path, hint="check the path") from None


def _state(file: IO[bytes]) -> tuple[int, int]:
    status = os.fstat(file.fileno())
    return status.st_size, status.st_mtime_ns
