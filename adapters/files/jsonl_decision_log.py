"""A log of decisions as JSON Lines: written by a thread of its own, so that no request waits for a disk."""

from __future__ import annotations

import queue
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import orjson
import structlog
from attrs import define, field

from domain.errors import StorageError

MAX_WAITING: Final = 10_000
_END: Final = None


@define(eq=False)
class JsonlDecisionLog:
    """A :class:`application.ports.serving.DecisionLog` that appends to one file, readable by its owner only.

    Lines that find the queue full, or the disk, are dropped and counted.

    Attributes:
        path: the file; made when missing.
        max_waiting: most lines that wait to be written.
    """

    path: Path
    max_waiting: int = MAX_WAITING
    dropped: int = field(default=0, init=False)
    _queue: queue.Queue[bytes | None] = field(init=False, repr=False)
    _thread: threading.Thread = field(init=False, repr=False)

    def __attrs_post_init__(self) -> None:
        """Open the file; raises StorageError when that cannot be."""
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self.path.touch(mode=0o600)
            file = self.path.open("ab", buffering=0)
        except OSError as error:
            raise StorageError(
                f"cannot write the decision log: {error.strerror or error}", where=self.path
            ) from error
        self._queue = queue.Queue(self.max_waiting)
        self._thread = threading.Thread(target=self._write, args=(file,), name="decision-log", daemon=True)
        self._thread.start()

    def append(self, line: Mapping[str, Any]) -> None:
        """Keep one line, or count it as dropped."""
        try:
            self._queue.put_nowait(orjson.dumps(line) + b"\n")
        except queue.Full:
            self.dropped += 1

    def close(self) -> None:
        """Write what waits, then close the file. Closing twice is once."""
        if self._thread.is_alive():
            self._queue.put(_END)
            self._thread.join()

    def _write(self, file: Any) -> None:
        warned = False
        with file:
            while (line := self._queue.get()) is not _END:
                try:
                    file.write(line)
                except OSError as error:
                    self.dropped += 1
                    if not warned:
                        structlog.get_logger("moe-router.serve").error("decision-log-failed", problem=str(error))
                    warned = True
