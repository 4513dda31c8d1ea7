"""An answer that grows token by token: its text so far, where it ends, and what of it may be given out already."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from attrs import define, field

from application.ports.answering import Generation
from domain.answers import Finish, GenerationOptions

_UNFINISHED = "\ufffd"  # what a tokenizer shows for bytes that are not a whole character yet


def cut_at(text: str, stop: Sequence[str]) -> tuple[str, bool]:
    """Return the text before the first of the stop strings, and whether there was one."""
    found = [position for position in map(text.find, stop) if position >= 0]
    return (text[: min(found)], True) if found else (text, False)


@define(eq=False)
class GrowingAnswer:
    """One answer, the same whether its text is taken in pieces or at the end.

    Tokens are decoded when somebody wants the text (whoever takes a piece, or a stop string that must be looked for),
    in small overlapping windows, so that a long answer costs no more per token than a short one.

    Attributes:
        tokenizer: turns tokens into text.
        options: how long it may be, and the strings that end it.
        ends: tokens that end it.
        silent: tokens that are not part of its text: those that end, begin or pad a text. Other special tokens, such
            as the mark of a tool call, are part of it.
        tokens: how many tokens were added, the end included.
        finish: why it ended; None while it grows.
    """

    tokenizer: Any
    options: GenerationOptions
    ends: frozenset[int]
    silent: frozenset[int]
    tokens: int = field(default=0, init=False)
    finish: Finish | None = field(default=None, init=False)
    _spoken: list[int] = field(factory=list, init=False)
    _whole: int = field(default=0, init=False)  # tokens whose text is settled
    _window: int = field(default=0, init=False)  # first token that is decoded again with new ones
    _text: str = field(default="", init=False)
    _given: int = field(default=0, init=False)

    def push(self, token: int) -> None:
        """Add the next token; nothing happens once the answer has ended."""
        if self.finish is not None:
            return
        self.tokens += 1
        if token not in self.silent:
            self._spoken.append(token)
        if token in self.ends:
            self.finish = Finish.STOP
        elif self.tokens >= self.options.max_new_tokens:
            self.finish = Finish.LENGTH
        if self.options.stop:
            self._settle()
            self._text, stopped = cut_at(self._text, self.options.stop)
            if stopped:
                self.finish = Finish.STOP

    @property
    def generation(self) -> Generation:
        """The answer that has ended."""
        assert self.finish is not None
        self._settle()
        return Generation(self._text.strip(), self.tokens, self.finish)

    def take(self) -> str:
        """Return the text that was not given out yet; what may still be cut off or stripped is held back."""
        self._settle()
        text = self._text.lstrip()
        if self.finish is None:
            text = text[: len(text) - _held(text, self.options.stop)]
        text = text.rstrip()
        new, self._given = text[self._given :], max(self._given, len(text))
        return new

    def _settle(self) -> None:
        if self._whole == len(self._spoken):
            return
        before = self._decoded(self._spoken[self._window : self._whole])
        now = self._decoded(self._spoken[self._window :])
        if self.finish is not None or (len(now) > len(before) and not now.endswith(_UNFINISHED)):
            self._text += now[len(before) :]
            self._window, self._whole = self._whole, len(self._spoken)

    def _decoded(self, tokens: list[int]) -> str:
        text: str = self.tokenizer.decode(tokens, skip_special_tokens=False, clean_up_tokenization_spaces=False)
        return text


def _held(text: str, stop: Sequence[str]) -> int:
    """Return how many characters at the end may be the beginning of a stop string."""
    longest = max((len(string) for string in stop), default=1) - 1
    for size in range(min(longest, len(text)), 0, -1):
        if any(string.startswith(text[-size:]) for string in stop):
            return size
    return 0
