"""From a rendered conversation to token ids: the template's marks are marks, and what people say is text.

A tokenizer reads ``<|im_end|>`` as the end of a turn wherever it stands. So where somebody says such a mark, the
template is given a stand-in for it; afterwards each stretch of text around a stand-in is put into tokens by a copy of
the tokenizer that knows no marks. What the model reads is the same text, byte for byte.
"""

from __future__ import annotations

import json
import re
import secrets
from collections.abc import Callable, Iterator
from typing import Any
from weakref import WeakKeyDictionary

from attrs import evolve
from tokenizers import Tokenizer

from domain.chats import Chat, Message
from domain.errors import DataRejectedError

_PLAIN: WeakKeyDictionary[Any, Tokenizer] = WeakKeyDictionary()


def tokens_of(
    tokenizer: Any, chat: Chat, render: Callable[[Chat], str], *, begins: bool = True
) -> tuple[str, list[int]]:
    """Return what `render` makes of a conversation, as text and as token ids.

    In the assistant's own turns only special tokens are text; marks that it may say, such as tool calls, are not.
    With `begins` off the text goes on from another one: nothing comes before it, and its end mark stays.

    Raises:
        DataRejectedError: what `render` raises, or somebody says a mark that this tokenizer cannot read as text.
    """
    marks = _marks(tokenizer)
    safe, said = _with_stand_ins(chat, marks)
    text = render(safe)
    if not said:
        return text, _ids(tokenizer, text) if begins else tokenizer(text, add_special_tokens=False).input_ids
    stand_in = re.compile("|".join(map(re.escape, said)))
    whole = stand_in.sub(lambda match: said[match[0]], text)
    ids: list[int] = []
    for stretch in _stretches(text, marks, stand_in):
        if stretch in marks:
            ids.append(marks[stretch][0])
        elif stand_in.search(stretch):
            ids += _as_text(tokenizer, stand_in.sub(lambda match: said[match[0]], stretch), marks)
        else:
            ids += tokenizer(stretch, add_special_tokens=False).input_ids
    begin = tokenizer.bos_token_id if begins and not tokenizer.chat_template else None
    if begin is not None and _ids(tokenizer, "a")[:1] == [begin]:
        ids.insert(0, begin)
    return whole, ids


def _ids(tokenizer: Any, text: str) -> list[int]:
    """Let the tokenizer do it. A chat template brings its special tokens along; an end at the end would end it."""
    ids: list[int] = tokenizer(text, add_special_tokens=not tokenizer.chat_template).input_ids
    ends = {tokenizer.eos_token_id, tokenizer.sep_token_id} - {None}
    while not tokenizer.chat_template and len(ids) > 1 and ids[-1] in ends:
        ids = ids[:-1]
    return ids


def _marks(tokenizer: Any) -> dict[str, tuple[int, bool]]:
    """Return every token that stands for itself wherever it is written: its id, and whether it is special."""
    return {token.content: (index, token.special) for index, token in tokenizer.added_tokens_decoder.items()}


def _with_stand_ins(chat: Chat, marks: dict[str, tuple[int, bool]]) -> tuple[Chat, dict[str, str]]:
    """Return the chat with a stand-in for each mark that somebody says, and what each stands for."""
    said: dict[str, str] = {}
    nonce = secrets.token_hex(6)

    def replaced(message: Message) -> Message:
        own = message.role == "assistant"
        wanted = [mark for mark, (_, special) in marks.items() if mark in message.content and (special or not own)]
        if not wanted:
            return message

        def stand_in(match: re.Match[str]) -> str:
            name = f"mark{nonce}n{len(said):06d}"
            said[name] = match[0]
            return name

        return evolve(message, content=_pattern(wanted).sub(stand_in, message.content))

    return tuple(replaced(message) for message in chat), said


def _pattern(marks: list[str]) -> re.Pattern[str]:
    return re.compile("|".join(map(re.escape, sorted(marks, key=len, reverse=True))))


def _stretches(text: str, marks: dict[str, tuple[int, bool]], stand_in: re.Pattern[str]) -> Iterator[str]:
    """Yield the text in pieces, in order: each real mark next to a piece with stand-ins, and what is between them."""
    pieces = [piece for piece in re.split(f"({_pattern(list(marks)).pattern})", text) if piece]
    kept = ""
    for piece in pieces:
        if stand_in.search(piece):
            if kept:
                yield kept
            yield piece
            kept = ""
        else:
            kept += piece
    if kept:
        yield kept


def _as_text(tokenizer: Any, text: str, marks: dict[str, tuple[int, bool]]) -> list[int]:
    ids: list[int] = _plain(tokenizer).encode(text, add_special_tokens=False).ids
    known = {index: mark for mark, (index, _) in marks.items()}
    for each in ids:
        if each in known:
            raise DataRejectedError(f"the prompt has the mark {known[each]} in it, which cannot be read as text")
    return ids


def _plain(tokenizer: Any) -> Tokenizer:
    """Return a copy of a tokenizer that knows no marks."""
    if tokenizer not in _PLAIN:
        if not getattr(tokenizer, "is_fast", False):
            raise DataRejectedError("this tokenizer cannot read the marks in the prompt as text")
        parts = json.loads(tokenizer.backend_tokenizer.to_str())
        parts["added_tokens"] = []
        parts["post_processor"] = None
        for step in _steps(parts.get("pre_tokenizer")):
            if step.get("prepend_scheme") == "first":  # the text comes after a mark, not first
                step["prepend_scheme"] = "never"
        _PLAIN[tokenizer] = Tokenizer.from_str(json.dumps(parts))
    return _PLAIN[tokenizer]


def _steps(step: Any) -> Iterator[dict[str, Any]]:
    if isinstance(step, dict):
        yield step
        for inner in step.get("pretokenizers", ()):
            yield from _steps(inner)
