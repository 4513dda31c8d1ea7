"""Ports around routing data sets."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from domain.samples import RoutingSample


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
