"""Whether a generated answer is the reference answer: the same tool calls, or the same words."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Any, Final

from attrs import frozen

from domain.bootstrap import Estimate, average, resampled_means
from domain.chats import Message
from domain.comparison import BASE, ScoredRow

_MARKED: Final = re.compile(r"<tool_call>(.*?)(?:</tool_call>|\Z)|<function=(\w+)>(.*?)</function>", re.DOTALL)
_FENCE: Final = re.compile(r"\A```(?:json)?\s*(.*?)\s*```\Z", re.DOTALL)

Call = tuple[str, str]
"""A tool's name, and its arguments as JSON text with sorted keys."""


def answers_match(reference: Message, text: str) -> bool:
    """Tell whether `text` says what the reference answer says.

    Where the reference calls tools (marked in its text, as JSON alone, or in a field of their own), the text must
    call the same functions with the same arguments, in the same order; the order of keys and white space do not
    count. Elsewhere the words must be the same but for white space.
    """
    wanted = _calls_of(reference)
    if wanted:
        return wanted == tool_calls(text)
    return " ".join(reference.content.split()) == " ".join(text.split())


def tool_calls(text: str) -> list[Call]:
    """Return the tool calls in an answer, in order; none where it calls no tool or a call cannot be read.

    Read are Hermes' marks (``<tool_call>{"name": …, "arguments": …}</tool_call>``), Llama's
    (``<function=NAME>{…}</function>``), and a text that is nothing but such an object or a list of them.
    """
    found = list(_MARKED.finditer(text))
    if found:
        calls = [_call(_read(match[1])) if match[2] is None else _named(match[2], _read(match[3])) for match in found]
    else:
        fenced = _FENCE.match(text.strip())
        whole = _read(fenced[1] if fenced else text)
        calls = [_call(one) for one in (whole if isinstance(whole, list) else [whole])]
    return [] if None in calls else [call for call in calls if call is not None]


def _calls_of(reference: Message) -> list[Call | None]:
    if reference.tool_calls:
        return [_named(call.name, _read(call.arguments)) for call in reference.tool_calls]
    return [*tool_calls(reference.content)]


def _call(value: Any) -> Call | None:
    function = value.get("function", value) if isinstance(value, dict) else None
    if isinstance(function, dict) and isinstance(function.get("name"), str):
        arguments = function.get("arguments", function.get("parameters", {}))
        return _named(function["name"], _read(arguments) if isinstance(arguments, str) else arguments)
    return None


def _named(name: str, arguments: Any) -> Call | None:
    if not isinstance(arguments, dict):
        return None
    return name, json.dumps(arguments, sort_keys=True, ensure_ascii=False)


def _read(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


@frozen
class MatchRates:
    """How often generated answers are the reference answers.

    Attributes:
        rates: per data set, the share under the base model and then under each adapter.
        router: the share over all data sets when the router chooses; None without a router.
        by_label: the share when every prompt is answered by the adapter whose data it is from.
    """

    rates: dict[str, dict[str, Estimate]]
    router: Estimate | None
    by_label: Estimate


def match_rates(rows: Sequence[ScoredRow], names: Sequence[str], *, seed: int = 42) -> MatchRates:
    """Return the shares; every data set counts the same in those over all."""
    speakers = (BASE, *names)
    groups: dict[str, list[list[float]]] = {}
    for name in names:
        part = [row for row in rows if row.adapter == name]
        if not part:
            continue
        columns = [[float(row.matches[place]) for row in part] for place in range(len(speakers))]
        chosen = [float(row.matches[0 if row.chosen is None else 1 + names.index(row.chosen)]) for row in part]
        groups[name] = [*columns, chosen]
    means = resampled_means(groups, seed=seed)
    return MatchRates(
        rates={
            name: {speaker: each.estimate for speaker, each in zip(speakers, series[:-1], strict=True)}
            for name, series in means.items()
        },
        router=average([series[-1] for series in means.values()]).estimate if any(row.best for row in rows) else None,
        by_label=average([series[1 + names.index(name)] for name, series in means.items()]).estimate,
    )
