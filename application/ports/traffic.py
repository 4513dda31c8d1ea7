"""The port that reads what a server decided."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from domain.traffic import LoggedDecision, LoggedFeedback


class TrafficReader(Protocol):
    """Reads decision logs."""

    def read(self, path: Path) -> tuple[list[LoggedDecision], list[LoggedFeedback]]:
        """Return a log's decisions and feedback, each in the order of their coming.

        A last line that is cut off (the server is still writing) is left out.

        Raises:
            MissingFileError: nothing is there.
            DataRejectedError: another line is not one of such a log.
        """
        ...
