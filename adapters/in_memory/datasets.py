"""Data set ports in memory."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from attrs import Factory, define, evolve, field, frozen

from adapters.datasets.jsonl_dataset_store import (
    METADATA,
    NO_ANSWERS,
    NO_ANSWERS_HINT,
    dataset_contents,
    describe_file,
    metadata_bytes,
    parse_metadata,
    parse_rows,
)
from adapters.datasets.reference_lines import parse_answers
from application.ports.datasets import DrawnLine, Origin, ParsedLine, Source
from domain.conversations import extract_prompt, row_id
from domain.datasets import DatasetFile, RoutingDataset
from domain.errors import DataRejectedError, MissingFileError, TargetExistsError
from domain.printable import printable
from domain.publishing import ANSWERS_FILE
from domain.references import ReferenceAnswer
from domain.row_shapes import SAMPLE, describe_shape, detect_shape
from domain.samples import RoutingSample
from domain.sampling import seeded, shuffle


@define
class InMemoryDatasetStore:
    """A :class:`application.ports.DatasetStore` whose folders are dictionaries.

    Attributes:
        folders: content of every file, by folder and name; fill it to have something to read.
    """

    folders: dict[Path, dict[str, bytes]] = Factory(dict)
    _reserved: set[Path] = Factory(set)

    def read_rows(self, path: Path) -> list[RoutingSample]:
        """Read one file strictly; see the port for the contract."""
        content = self.folders.get(path.parent, {}).get(path.name)
        if content is None:
            raise MissingFileError("no such file", where=path)
        rows = parse_rows(content, path)
        if not rows:
            raise DataRejectedError("holds no rows", where=path)
        return rows

    def list_files(self, folder: Path) -> tuple[DatasetFile, ...]:
        """Hash every file of the folder; see the port for the contract."""
        return tuple(describe_file(name, content) for name, content in sorted(self._folder(folder).items()))

    def read_metadata(self, folder: Path) -> dict[str, Any]:
        """Read ``metadata.json``; see the port for the contract."""
        if METADATA not in self._folder(folder):
            raise MissingFileError("no such file", where=folder / METADATA)
        return parse_metadata(self.folders[folder][METADATA], folder / METADATA)

    def read_answers(self, folder: Path) -> list[ReferenceAnswer]:
        """Read ``eval-answers.jsonl``; see the port for the contract."""
        if ANSWERS_FILE not in self._folder(folder):
            raise MissingFileError(NO_ANSWERS, where=folder, hint=NO_ANSWERS_HINT)
        return parse_answers(self.folders[folder][ANSWERS_FILE], folder / ANSWERS_FILE)

    def data_sets_in(self, folder: Path) -> list[Path]:
        """Look for ``metadata.json``; see the port for the contract."""
        return sorted(path for path, files in self.folders.items() if path.parent == folder and METADATA in files)

    def _folder(self, folder: Path) -> dict[str, bytes]:
        if folder not in self.folders:
            raise MissingFileError("no such folder", where=folder)
        return self.folders[folder]

    @contextmanager
    def reserve(self, target: Path, *, unique: bool = False, replace: bool = False) -> Iterator[InMemoryReservation]:
        """Reserve a name; see the port for the contract."""
        path, number = target, 1
        while path in self._reserved or (path in self.folders and not replace):
            if not unique:
                raise TargetExistsError(
                    "already exists", where=path, replaceable=METADATA in self.folders.get(path, ())
                )
            number += 1
            path = target.with_name(f"{target.name}_{number}")
        if path in self.folders and METADATA not in self.folders[path]:
            names = ", ".join(sorted(self.folders[path]))
            raise TargetExistsError(f"it holds what is not part of a routing data set: {names}", where=path)
        self._reserved.add(path)
        try:
            yield InMemoryReservation(self, path)
        finally:
            self._reserved.discard(path)


@frozen
class InMemoryReservation:
    """A :class:`application.ports.datasets.ReservedDataset` in memory."""

    store: InMemoryDatasetStore
    path: Path

    def commit(self, dataset: RoutingDataset) -> tuple[DatasetFile, ...]:
        """Put all files in place at once."""
        contents = list(dataset_contents(dataset))
        files = [describe_file(name, content, rows) for name, content, rows in contents]
        manifest = metadata_bytes(dataset, files)
        files.append(describe_file(METADATA, manifest))
        self.store.folders[self.path] = {name: content for name, content, _ in contents} | {METADATA: manifest}
        return tuple(files)


@frozen
class InMemorySourceReader:
    """A :class:`application.ports.SourceReader` over rows that are already parsed.

    Attributes:
        rows: the parsed rows of every source, by path; None stands for a blank line.
    """

    rows: Mapping[Path, Sequence[Any]] = field()

    @contextmanager
    def open(self, source: Source, *, seed: int, expected: int) -> Iterator[InMemoryDraws]:
        """Put all lines in random order; see the port for the contract."""
        known = self._known(source)
        lines = [self._line(known, number, row) for number, row in self._numbered(source)]
        shuffle(lines, seeded(seed, "draw", source.adapter))
        yield InMemoryDraws(known, lines)

    @contextmanager
    def read_all(self, source: Source) -> Iterator[Iterator[ParsedLine]]:
        """Go over every line in order; see the port for the contract."""
        known = self._known(source)
        lines = [self._line(known, number, row) for number, row in self._numbered(source)]
        yield iter([(line.number, line.outcome, line.origin) for line in lines])

    def _known(self, source: Source) -> Source:
        rows = [row for _, row in self._numbered(source)][:SAMPLE]
        row_format = source.row_format or detect_shape(rows)
        return evolve(source, row_format=row_format, read_as=describe_shape(row_format, rows))

    def _numbered(self, source: Source) -> Iterator[tuple[int, Any]]:
        if source.path not in self.rows:
            raise MissingFileError("no such file", where=source.path)
        return enumerate(self.rows[source.path], start=1)

    @staticmethod
    def _line(source: Source, number: int, row: Any) -> DrawnLine:
        outcome = None if row is None else extract_prompt(row, source.format, source.turn)
        source_id = row_id(row) or f"{printable(source.path.name)}:{number}"
        return DrawnLine(number, outcome, source_id, Origin(source.path), row=row if source.keep_rows else None)


@frozen
class InMemoryDraws:
    """A :class:`application.ports.datasets.SourceDraws` over a shuffled list."""

    source: Source
    shuffled: Sequence[DrawnLine]

    @property
    def lines(self) -> int:
        """Number of lines in the source."""
        return len(self.shuffled)

    def __iter__(self) -> Iterator[DrawnLine]:
        return iter(self.shuffled)
