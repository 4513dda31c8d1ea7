"""Reference answers as JSON Lines: :data:`domain.publishing.ANSWERS_FILE` of a routing data set."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import orjson
from attrs import evolve

from domain.chats import as_turn, parse_turns
from domain.errors import DataRejectedError, MoeRouterError
from domain.references import ReferenceAnswer


def answer_lines(answers: Sequence[ReferenceAnswer]) -> bytes:
    """Return the content of the file: per answer whose it is, the conversation before it, its text and tool calls."""
    return b"".join(orjson.dumps(_as_values(one), option=orjson.OPT_APPEND_NEWLINE) for one in answers)


def parse_answers(content: bytes, where: object) -> list[ReferenceAnswer]:
    """Return the answers of a file; raises DataRejectedError naming the line. Blank lines are passed over."""
    answers = []
    for number, line in enumerate(content.split(b"\n"), start=1):
        if not line.strip():
            continue
        try:
            answers.append(_parse(orjson.loads(line)))
        except (ValueError, MoeRouterError) as error:
            what = error.what if isinstance(error, MoeRouterError) else str(error)
            raise DataRejectedError(f"line {number}: {what}", where=where, hint="make the data set anew") from error
    return answers


def _as_values(one: ReferenceAnswer) -> dict[str, Any]:
    values = {"adapter": one.adapter, "source_id": one.source_id, "text": one.text}
    said = as_turn(one.answer)
    calls = {key: said[key] for key in ("tool_calls",) if key in said}
    return {**values, "messages": [as_turn(turn) for turn in one.chat], "answer": one.answer.content, **calls}


def _parse(row: Any) -> ReferenceAnswer:
    if not isinstance(row, dict):
        raise DataRejectedError(f"the row is a {type(row).__name__}, not an object")
    for key in ("adapter", "source_id", "text", "answer"):
        if not isinstance(row.get(key), str):
            raise DataRejectedError(f"{key!r} is not a text" if key in row else f"no {key!r}")
    said = {"role": "assistant", "content": row["answer"], "tool_calls": row.get("tool_calls")}
    chat, (answer,) = parse_turns(row.get("messages")), parse_turns([said])
    if not (answer.content.strip() or answer.tool_calls):
        raise DataRejectedError("the answer says nothing")
    return ReferenceAnswer(row["adapter"], row["source_id"], row["text"], chat, evolve(answer, tool_call_id=None))
