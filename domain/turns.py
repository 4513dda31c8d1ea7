"""Which words of a conversation are routed: the one rule for `generate`, `train`, `route`, `infer` and serving.

Callers with a parsed conversation use :func:`domain.chats.routing_text`, those with a row of source data
:func:`domain.conversations.extract_prompt`; both end here.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Sequence
from enum import StrEnum
from typing import Any, Final


class TurnChoice(StrEnum):
    """Which human turns of a conversation make the text that is routed; turns without words do not count.

    Attributes:
        FIRST: the oldest.
        LAST: the newest, led by earlier ones for as long as the text has fewer than `SHORT` words.
        ALL: all of them, one per line, oldest first.
    """

    FIRST = "first"
    LAST = "last"
    ALL = "all"


SHORT: Final = 3
"""Words below which the newest turn ("yes", "commit it") says too little by itself."""

# Blanks are tried from where they begin only: a long run of them must not be looked at once for each of them.
_PLACEHOLDER = re.compile(r"(?:(?<![ \t])[ \t]++)?+<(?:image|video|audio)>[ \t]*+")
_INSERTED = re.compile(
    r"<(system[-_]reminder|environment_details|environment_context|tool_response|tool_result|function_results)>"
)
_TEXT_PARTS = ("text", "input_text")
# Scripts that are written without spaces (Thai to Lao, kana, Han): each letter counts as a word.
_WORD = re.compile(r"[\u0e00-\u0eff\u3040-\u30ff\u3400-\u9fff]|[^\W\u0e00-\u0eff\u3040-\u30ff\u3400-\u9fff]+")


def has_placeholder(text: str) -> bool:
    """Tell whether ``<image>``, ``<video>`` or ``<audio>`` stands in the text."""
    return _PLACEHOLDER.search(text) is not None


def strip_media(text: str) -> str:
    """Return the text without ``<image>``, ``<video>`` and ``<audio>`` placeholders and surrounding space."""
    return _PLACEHOLDER.sub(" ", text).strip() if "<" in text else text.strip()


def plain_text(text: str) -> str:
    """Return what a person said: no media placeholders, no blocks that programs put in, no surrounding space.

    A text that shows nothing (zero-width characters only) is "".
    """
    if "<" in text:
        text = strip_media(_without_inserted(text))
    text = text.strip()
    return text if text.isascii() or any(map(_shows, text)) else ""


def _without_inserted(text: str) -> str:
    """Return the text with a space for each block from such a tag to the next that closes it, in one pass."""
    kept: list[str] = []
    start, unclosed = 0, set[str]()
    for opened in _INSERTED.finditer(text):
        name = opened[1]
        if opened.start() < start or name in unclosed:
            continue
        end = text.find(f"</{name}>", opened.end())
        if end < 0:
            unclosed.add(name)
        else:
            kept += text[start : opened.start()], " "
            start = end + len(name) + 3
    return "".join([*kept, text[start:]])


def _shows(letter: str) -> bool:
    return not letter.isspace() and unicodedata.category(letter) != "Cf"


def join_parts(content: Any) -> str | None:
    """Return a turn's content as one text; of a list of parts the texts, one per line (no images, no tool results).

    None for content of another kind.
    """
    if isinstance(content, str):
        return content
    if not isinstance(content, list):
        return None
    texts = []
    for part in content:
        if isinstance(part, dict):
            part = part.get("text") or "" if part.get("type", "text") in _TEXT_PARTS else ""
        if not isinstance(part, str):
            return None
        texts.append(part)
    return "\n".join(text for text in texts if text)


def chosen_text(said: Sequence[str], turn: TurnChoice) -> str:
    """Return the routed text of a person's turns, given plain and oldest first; "" when none has words."""
    if len(said) == 1:
        return said[0]
    texts = [text for text in said if text]
    if not texts or turn is TurnChoice.FIRST:
        return texts[0] if texts else ""
    if turn is TurnChoice.ALL:
        return "\n".join(texts)
    start = len(texts) - 1
    words = _words(texts[start:])
    while start and words < SHORT:
        start -= 1
        words += _words(texts[start : start + 1])
    return "\n".join(texts[start:])


def is_short(text: str) -> bool:
    """Tell whether a turn says too little by itself."""
    return _words((text,)) < SHORT


def _words(texts: Iterable[str]) -> int:
    return sum(len(_WORD.findall(text)) for text in texts)
