"""Reading decision logs in JSON Lines."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import orjson

from domain.errors import DataRejectedError, MissingFileError
from domain.traffic import LoggedDecision, LoggedFeedback

SCHEMA: Final = 1


class JsonlTrafficReader:
    """An :class:`application.ports.traffic.TrafficReader`."""

    def read(self, path: Path) -> tuple[list[LoggedDecision], list[LoggedFeedback]]:
        """Return a log's decisions and feedback; see the port for the contract."""
        decisions: list[LoggedDecision] = []
        feedback: list[LoggedFeedback] = []
        try:
            with path.open("rb") as file:
                for number, line in enumerate(file, start=1):
                    if not line.endswith(b"\n"):
                        break
                    one = _line(line, path, number)
                    (decisions if isinstance(one, LoggedDecision) else feedback).append(one)  # type: ignore[arg-type]
        except FileNotFoundError:
            raise MissingFileError("no such file", where=path) from None
        except OSError as error:
            raise MissingFileError(f"cannot be read: {error.strerror}", where=path) from error
        return decisions, feedback


def _line(line: bytes, path: Path, number: int) -> LoggedDecision | LoggedFeedback:
    where = f"{path}, line {number}"
    try:
        value: dict[str, Any] = orjson.loads(line)
        if value["schema"] != SCHEMA:
            raise DataRejectedError(f"the log's version {value['schema']!r} is not {SCHEMA}", where=where)
        if value["type"] == "feedback":
            correct = value["correct"]
            return LoggedFeedback(value["id"], None if correct == "none" else correct)
        text = value.get("text")
        return LoggedDecision(
            value["id"],
            value["time"],
            value["adapter"],
            value["best"],
            value["reason"],
            value["out_of_scope"],
            value["prompt_hash"] if text is None else text,
            text is not None,
        )
    except (orjson.JSONDecodeError, KeyError, TypeError) as error:
        raise DataRejectedError(f"is not a line of a decision log: {error}", where=where) from None
