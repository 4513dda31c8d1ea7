"""What a container has answered so far, on a volume: one that takes its place answers only what is missing."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Final

from attrs import define, field

from adapters.modal_cloud.modal_wire import from_wire, to_wire
from domain.answers import Answer

_KEPT_SECONDS: Final = 7 * 24 * 3600


@define
class AnswerJournal:
    """A file of answers by position, one a line; it is open only while it is read or written.

    Attributes:
        path: the file; a call that ends soon makes none.
        commit: makes what was written durable.
        every: seconds for which answers may wait to be written; writing them costs about one.
    """

    path: Path
    commit: Callable[[], None]
    every: float
    _waiting: list[bytes] = field(factory=list, init=False)
    _written_at: float = field(factory=time.monotonic, init=False)

    def read(self) -> dict[int, Answer]:
        """Return the answers by position; a line that was cut off is removed."""
        try:
            content = self.path.read_bytes()
        except FileNotFoundError:
            return {}
        whole = content[: content.rfind(b"\n") + 1]
        if whole != content:
            self.path.write_bytes(whole)
        lines = map(json.loads, whole.splitlines())
        return {line["index"]: from_wire(Answer, line["answer"]) for line in lines}

    def keep(self, index: int, answer: Answer) -> None:
        """Add one answer."""
        line = json.dumps({"index": index, "answer": to_wire(answer)})  # not orjson, which has no infinite numbers
        self._waiting.append(line.encode() + b"\n")
        if time.monotonic() - self._written_at >= self.every:
            self.write()

    def write(self) -> None:
        """Make every answer durable that was added."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("ab") as file:
            file.writelines(self._waiting)
        self.commit()
        self._waiting.clear()
        self._written_at = time.monotonic()


def clear_journals(folder: Path) -> None:
    """Remove the folder of a call that is done, and those beside it that nobody came back to for a week."""
    if not folder.exists():
        return
    shutil.rmtree(folder, ignore_errors=True)
    with suppress(OSError):
        for other in folder.parent.iterdir():
            if time.time() - other.stat().st_mtime > _KEPT_SECONDS:
                shutil.rmtree(other, ignore_errors=True)
