"""Drawing rows uniformly without knowing how many there are, out of one file or out of many."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from itertools import islice
from random import Random
from typing import Any

from attrs import define, field, frozen

from adapters.datasets.row_files import Parsed, RowFile
from adapters.datasets.source_streams import reading
from adapters.datasets.text_rows import JsonLineRows
from application.ports.datasets import DrawnLine, Source
from domain.conversations import Rejection, extract_prompt, row_id
from domain.printable import printable
from domain.sampling import reservoir_schedule, seeded, shuffle, shuffled_range


@define
class FileDraws:
    """A :class:`application.ports.SourceDraws` over one open file.

    A first batch comes from skip-ahead reservoir sampling in the pass that also counts the rows. When it is used
    up, further batches are taken from a pseudo-random order of the row numbers, one pass each.

    Attributes:
        source: what is drawn from, with the format that its rows are read in.
        file: its open file.
        purpose: what the order depends on besides the content: the seed and names.
        reservoir: rows of the first batch.
    """

    source: Source
    file: RowFile
    seed: int
    purpose: tuple[str, ...]
    reservoir: int
    _first: list[Any] = field(factory=list)

    @property
    def lines(self) -> int:
        """Rows of the file, blank lines included."""
        return self.file.rows

    def find_first(self) -> None:
        """Fill the first batch and count the rows."""
        rng = seeded(self.seed, "draw", *self.purpose)
        slots: deque[int] = deque()

        def wanted() -> Iterator[int]:
            for index, slot in reservoir_schedule(self.reservoir, rng):
                slots.append(slot)
                yield index

        with reading(self.file.origin.path):
            if (known := self.file.known_rows()) is not None:
                self._find_known(known, rng)
                return
            for found in self.file.locate(wanted()):
                slot = slots.popleft()
                if slot < len(self._first):
                    self._first[slot] = found
                else:
                    self._first.append(found)
        shuffle(self._first, rng)

    def _find_known(self, rows: int, rng: Random) -> None:
        """Fill the first batch of a file that tells its number of rows: only rows that stay in it are read."""
        places: dict[int, int] = {}
        for index, slot in reservoir_schedule(self.reservoir, rng):
            if index >= rows:
                break
            places[slot] = index
        wanted = sorted(places.values())
        found = dict(zip(wanted, self.file.locate(iter(wanted)), strict=True))
        self._first = [found[places[slot]] for slot in range(len(places))]
        shuffle(self._first, rng)

    def __iter__(self) -> Iterator[DrawnLine]:
        """Yield every row once, in random order; see the port for the contract."""
        with reading(self.file.origin.path):
            yield from self._draw()

    def _draw(self) -> Iterator[DrawnLine]:
        drawn, blank = set(), 0
        for found in self._first:
            line = self._line(*self.file.read(found))
            drawn.add(line.number - 1)
            blank += line.outcome is None
            yield line
        if len(drawn) == self.lines:
            return
        order, left_blank = self._further(drawn, mostly_blank=2 * blank > len(drawn))
        while batch := list(islice(order, max(self.reservoir, self.file.batch))):
            wanted = sorted(batch)
            found_by = dict(zip(wanted, self.file.locate(iter(wanted)), strict=True))
            yield from (self._line(*self.file.read(found_by.pop(index))) for index in batch)
        if left_blank:
            yield DrawnLine(self.lines, None, "", self.file.origin, times=left_blank)

    def _further(self, drawn: set[int], *, mostly_blank: bool) -> tuple[Iterator[int], int]:
        """Return the rows that are not drawn yet in random order, and how many blank ones were left out of it."""
        names = "/".join(self.purpose)
        filled = self.file.filled_lines() if mostly_blank and isinstance(self.file, JsonLineRows) else None
        if filled is None:
            order = shuffled_range(self.lines, f"{self.seed}/further/{names}")
            return (index for index in order if index not in drawn), 0
        rest = [index for index in filled if index not in drawn]
        shuffle(rest, seeded(self.seed, "filled", *self.purpose))
        return iter(rest), self.lines - len(drawn) - len(rest)

    def _line(self, number: int, row: Parsed) -> DrawnLine:
        origin = self.file.origin
        fallback = f"{printable(origin.path.name)}:{number}"
        if row is None or isinstance(row, Rejection):
            return DrawnLine(number, row, fallback, origin)
        outcome = extract_prompt(row[0], self.source.format, self.source.turn)
        kept = row[0] if self.source.keep_rows else None
        return DrawnLine(number, outcome, row_id(row[0]) or fallback, origin, row=kept)


@frozen
class ShardDraws:
    """A :class:`application.ports.SourceDraws` over many files, uniform over the rows of all of them.

    Each next row comes from a file with a chance proportional to the rows that the file still has.

    Attributes:
        source: what is drawn from.
        shards: the files' own draws.
        seed: decides which file is next.
    """

    source: Source
    shards: Sequence[FileDraws]
    seed: int

    @property
    def lines(self) -> int:
        """Rows of all files."""
        return sum(shard.lines for shard in self.shards)

    def __iter__(self) -> Iterator[DrawnLine]:
        """Yield every row once, in random order; see the port for the contract."""
        rng = seeded(self.seed, "shards", self.source.adapter)
        left, rows = [shard.lines for shard in self.shards], [iter(shard) for shard in self.shards]
        while total := sum(left):
            place, shard = int(rng.random() * total), 0
            while place >= left[shard]:
                place -= left[shard]
                shard += 1
            line = next(rows[shard])
            left[shard] -= line.times
            yield line
