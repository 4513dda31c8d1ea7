"""Ports around routing data sets: the adapters' own data they are made of, and where they are kept."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Protocol

from attrs import frozen

from domain.conversations import DEFAULT_FORMAT, Rejection, RejectReason, RowFormat
from domain.datasets import DatasetFile, RoutingDataset
from domain.references import ReferenceAnswer
from domain.samples import RoutingSample
from domain.turns import TurnChoice


class RowReader(Protocol):
    """Reads one file of a routing data set (train, val, eval or data)."""

    def read_rows(self, path: Path) -> list[RoutingSample]:
        """Return the rows in file order, at least one.

        Raises:
            MissingFileError: no such file.
            DataRejectedError: a row is not a routing sample, or labels and names disagree; the message names
                the file and the line.
        """
        ...


@frozen
class Origin:
    """Where a row lies.

    Attributes:
        path: its file.
        unit: what the file's rows are counted in: "line" for JSON Lines, else "row".
    """

    path: Path
    unit: str = "line"

    def place(self, number: int) -> str:
        """Return how a person finds row `number` in the file."""
        return f"{self.unit} {number}"


@frozen
class Source:
    """One adapter's own training data.

    Attributes:
        adapter: the adapter's name.
        path: a file, a folder or a glob of files, ``-`` for standard input, ``hf://datasets/OWNER/NAME``.
        row_format: where its rows keep their prompt; None to tell it by the first rows.
        turn: which human turns make the routing text.
        line_limit: bytes above which a line is rejected unread.
        more: further files, folders or globs of the same adapter.
        read_as: in words, how a reader reads it; a reader fills it in, with `row_format`.
        advice: what to do about a source whose first rows give no prompt; likewise.
        advised: the rejection that the advice is about.
        keep_rows: whether drawn lines bring their parsed row along, for the reference answer in it.
    """

    adapter: str
    path: Path
    row_format: RowFormat | None = None
    turn: TurnChoice = TurnChoice.LAST
    line_limit: int = 16 * 1024 * 1024
    more: tuple[Path, ...] = ()
    read_as: str = ""
    advice: str = ""
    keep_rows: bool = False
    advised: RejectReason = RejectReason.NO_CONVERSATION

    @property
    def paths(self) -> tuple[Path, ...]:
        """All that the source consists of."""
        return (self.path, *self.more)

    @property
    def format(self) -> RowFormat:
        """Where its rows keep their prompt; the default format while nobody has told."""
        return self.row_format or DEFAULT_FORMAT


@frozen
class DrawnLine:
    """One line (or row) of a source.

    Attributes:
        number: its number in its file, from 1.
        outcome: the routing text, or why there is none, or None for a blank line.
        source_id: the row's own id, or ``<file name>:<line number>``.
        origin: its file.
        times: how many blank lines this one stands for; 1 for any other.
        row: the parsed row, where the source is to keep rows.
    """

    number: int
    outcome: str | Rejection | None
    source_id: str
    origin: Origin
    times: int = 1
    row: Any = None


ParsedLine = tuple[int, str | Rejection | None, Origin]
"""A line number from 1 with its outcome and its file (see :class:`DrawnLine`): plain, since there may be millions."""


class SourceDraws(Protocol):
    """A source opened for drawing.

    The contract: iterating yields every line exactly once (blank ones may come together), in an order that is
    uniformly random and depends on the content, the seed and the expected number only. Lines are found lazily: a
    caller that stops early pays for what it took. Memory depends on the expected number and the line limit, not on
    the source.
    """

    @property
    def source(self) -> Source:
        """The source, with what its rows are read as."""
        ...

    @property
    def lines(self) -> int:
        """Number of lines in the source."""
        ...

    def __iter__(self) -> Iterator[DrawnLine]: ...


class SourceReader(Protocol):
    """Reads adapters' own training data."""

    def open(self, source: Source, *, seed: int, expected: int) -> AbstractContextManager[SourceDraws]:
        """Open a source for drawing about `expected` lines.

        Raises:
            MissingFileError: no such file, or not a file.
            DataRejectedError: damaged compression, or the file changed while it was being read.
            StorageError: the file system refused.
        """
        ...

    def read_all(self, source: Source) -> AbstractContextManager[Iterator[ParsedLine]]:
        """Open a source for reading and parsing every line in file order; raises as `open` does."""
        ...


class ReservedDataset(Protocol):
    """A name that is kept for one data set until it is committed or given up."""

    @property
    def path(self) -> Path:
        """Where the data set will lie."""
        ...

    def commit(self, dataset: RoutingDataset) -> tuple[DatasetFile, ...]:
        """Write the data set and make it appear, complete, under its name; raises StorageError."""
        ...


class DatasetReader(RowReader, Protocol):
    """Reads routing data sets that are already there, each a folder of files."""

    def list_files(self, folder: Path) -> tuple[DatasetFile, ...]:
        """Return the folder's files by name, hashes of their contents included, rows not counted.

        Raises:
            MissingFileError: no such folder.
            StorageError: the file system refused.
        """
        ...

    def read_metadata(self, folder: Path) -> dict[str, Any]:
        """Return the content of ``metadata.json``.

        Raises:
            MissingFileError: there is none.
            DataRejectedError: it is not a JSON object.
        """
        ...

    def read_answers(self, folder: Path) -> list[ReferenceAnswer]:
        """Return the reference answers of the held-out rows, in the order of those.

        Raises:
            MissingFileError: the data set keeps none.
            DataRejectedError: a line is not a reference answer; the message names it.
            StorageError: the file system refused.
        """
        ...

    def data_sets_in(self, folder: Path) -> list[Path]:
        """Return the folders in this one that hold a ``metadata.json``, by name; none when it is not there."""
        ...


class DatasetStore(DatasetReader, Protocol):
    """Keeps routing data sets.

    The contract: a data set appears complete and with the hashes of its files, or not at all; leaving the
    reservation without a commit leaves nothing behind.
    """

    def reserve(
        self, target: Path, *, unique: bool = False, replace: bool = False
    ) -> AbstractContextManager[ReservedDataset]:
        """Reserve a name.

        Args:
            target: folder of the data set.
            unique: when the name is taken, take ``<target>_2``, ``_3`` … instead of refusing.
            replace: on commit, replace the data set that is there, as a whole.

        Raises:
            TargetExistsError: the name is taken (and says whether `replace` would help), or what is there is not a
                data set and must not be replaced.
            StorageError: the file system refused.
        """
        ...
