"""Answers in JSON Lines files."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import orjson
from attrs import frozen

from adapters.answers.answer_json import answer_object, error_object
from adapters.files.locks import locked_file
from adapters.files.writable import check_writable
from application.ports.answer_files import fingerprint
from domain.answers import Answer
from domain.errors import DataRejectedError, MoeRouterError, StorageError, TargetExistsError, UsageError

LINE_LIMIT = 256 * 1024 * 1024
"""Bytes of a line at most: a prompt of the greatest length, escaped, and its answer are far below."""

_BEGINNING = b'{"id":'


@frozen
class JsonlAnswerLog:
    """A :class:`application.ports.answer_files.AnswerLog` that appends to a JSON Lines file.

    A line that a killed run left half-written is cut off by the next `finished`.

    Attributes:
        path: the file; made when the first answer comes.
        setting: identifies what answers: router, LoRA adapters and options. Each line holds it, and a file that
            another setting began is refused.
    """

    path: Path
    setting: str = ""

    def check(self) -> None:
        """Try whether the file can be appended to, or made; see the port for the contract."""
        if not os.path.isfile(self.path):  # noqa: PTH113 - Path.is_file raises for a name that is too long
            check_writable(self.path)
        else:
            try:
                self.path.open("ab").close()
            except OSError as error:
                raise UsageError(
                    f"cannot write: {error.strerror or error}", where=self.path, hint="choose another place"
                ) from error

    @contextmanager
    def held(self) -> Iterator[None]:
        """Lock the file; see the port for the contract. Where there are no locks, nobody is kept out."""
        with ExitStack() as stack:
            try:
                self.path.parent.mkdir(parents=True, exist_ok=True)
                ours = stack.enter_context(locked_file(self.path))
            except OSError as error:
                raise StorageError(f"cannot write: {error.strerror or error}", where=self.path) from error
            if not ours:
                hint = "wait for its end, or write to another --output"
                raise TargetExistsError("another run is answering into it", where=self.path, hint=hint)
            yield

    @property
    def resumable(self) -> bool:
        """A file keeps its answers."""
        return True

    def finished(self) -> Mapping[bytes, bytes]:
        """Read the answers that are there; see the port for the contract."""
        found: dict[bytes, bytes] = {}
        whole, torn = 0, b""
        try:
            with self.path.open("rb") as file:
                for number, line in enumerate(iter(partial(file.readline, LINE_LIMIT), b""), start=1):
                    if not line.endswith(b"\n"):
                        torn = line
                        break
                    whole += len(line)
                    found.update(self._finished(line, number))
        except FileNotFoundError:
            return {}
        except OSError as error:
            if isinstance(error, MoeRouterError):
                raise
            raise StorageError(f"cannot read: {error.strerror}", where=self.path) from error
        if torn:
            ours = torn.startswith(_BEGINNING) or (whole > 0 and _BEGINNING.startswith(torn))
            if not ours or len(torn) >= LINE_LIMIT:
                raise DataRejectedError("is not a file of answers; nothing was changed", where=self.path)
            os.truncate(self.path, whole)
        return found

    def _finished(self, line: bytes, number: int) -> dict[bytes, bytes]:
        """Return what one line says is finished: an answer, or nothing for a row that had none."""
        try:
            row: Any = orjson.loads(line)
        except orjson.JSONDecodeError:
            row = None
        if isinstance(row, dict) and {"id", "error", "line"} <= row.keys():
            return {}
        if not isinstance(row, dict) or not {"id", "prompt", "answer"} <= row.keys():
            raise DataRejectedError(
                "is not an answer of this program; nothing was changed",
                where=f"{self.path}:{number}",
                hint="write to another --output",
            )
        if row.get("setting", "") != self.setting:
            raise DataRejectedError(
                "was answered with another router, other LoRA adapters or other options; nothing was changed",
                where=f"{self.path}:{number}",
                hint="write to another --output, or answer with what was used then",
            )
        return {fingerprint(str(row["id"])): fingerprint(str(row["prompt"]))}

    def append(self, row_id: str, text: str, answer: Answer) -> None:
        """Append one line with one write."""
        self._append({"id": row_id, "prompt": text, **answer_object(answer)})

    def append_error(self, row_id: str, line: int, error: MoeRouterError) -> None:
        """Append one line that says why a row has no answer."""
        self._append(error_object(row_id, line, error))

    def _append(self, row: dict[str, Any]) -> None:
        if self.setting:
            row["setting"] = self.setting
        line = orjson.dumps(row, option=orjson.OPT_APPEND_NEWLINE)
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self.path.open("ab", buffering=0) as file:
                written = file.write(line)
                if written != len(line):  # the disk is full; take the piece away again
                    file.truncate(file.tell() - (written or 0))
                    raise StorageError("cannot write: no space left", where=self.path, hint="run it again")
                os.fsync(file.fileno())
        except OSError as error:
            if isinstance(error, StorageError):
                raise
            raise StorageError(f"cannot write: {error.strerror or error}", where=self.path) from error
