"""Where the values of a JSON array, or of JSON values one after the other, end: told without parsing them.

Vectorised as in Langdale & Lemire, "Parsing gigabytes of JSON per second" (VLDB Journal, 2019): only the positions
of quotes, backslashes, brackets and commas are looked at, so a long value costs memory no more than a short one.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from attrs import define

_QUOTE, _BACKSLASH, _OPEN, _CLOSE, _COMMA = 1, 2, 3, 4, 5
_KINDS: Final = np.zeros(256, np.uint8)
for _kind, _letters in ((_QUOTE, b'"'), (_BACKSLASH, b"\\"), (_OPEN, b"[{"), (_CLOSE, b"]}"), (_COMMA, b",")):
    _KINDS[list(_letters)] = _kind
_STEPS: Final = np.array([0, 0, 0, 1, -1, 0], np.int32)
_SPACE: Final = 32


@define
class JsonMarks:
    """Marks the ends of values, block after block.

    Attributes:
        in_array: whether the stream stands inside an array, behind its bracket: commas and the array's own closing
            bracket end values. Otherwise the last bracket of a value ends it.
        closed: whether the array's closing bracket was met.
    """

    in_array: bool
    closed: bool = False
    _depth: int = 0
    _in_string: bool = False
    _escaped: bool = False
    _blank_tail: bool = True
    _any: bool = False

    def mark(self, octets: Any, is_end: Any) -> int:
        """Set `is_end` where a value ends; return how many bytes of the block belong to values.

        Args:
            octets: the block, shape (bytes,), uint8.
            is_end: gets the result, same shape, bool.
        """
        is_end[:] = False
        if self.closed:
            self._blank_tail = self._blank_tail and bool((octets <= _SPACE).all())
            return 0
        at, kinds = self._structure(octets)
        depths = self._depth + np.cumsum(_STEPS[kinds])
        if len(depths):
            self._depth = int(depths[-1])
        size = len(octets)
        if self.in_array:
            ends = at[(kinds == _COMMA) & (depths == 0)]
            beyond = np.flatnonzero(depths < 0)
            if len(beyond):
                last = int(at[beyond[0]])
                empty = not self._any and self._blank_tail and bool((octets[:last] <= _SPACE).all())
                is_end[ends[ends < last]] = True
                is_end[last] = not empty
                self.closed, self._blank_tail = True, bool((octets[last + 1 :] <= _SPACE).all())
                return last + 1
        else:
            ends = at[(kinds == _CLOSE) & (depths == 0)]
        is_end[ends] = True
        self._any = self._any or bool(len(ends))
        tail = octets[int(ends[-1]) + 1 :] if len(ends) else octets
        self._blank_tail = (self._blank_tail or bool(len(ends))) and bool((tail <= _SPACE).all())
        return size

    def is_open(self) -> bool:
        """Whether a value begins behind the last end, or (after an array) anything at all."""
        return not self._blank_tail

    def _structure(self, octets: Any) -> tuple[Any, Any]:
        """Return positions and kinds of the brackets and commas that stand in no string."""
        every = _KINDS[octets]
        at = np.flatnonzero(every)
        kinds = every[at]
        quotes = self._without_escaped(at[kinds == _QUOTE], at[kinds == _BACKSLASH], len(octets))
        rest = kinds >= _OPEN
        at, kinds = at[rest], kinds[rest]
        outside = ((np.searchsorted(quotes, at) + self._in_string) & 1) == 0
        self._in_string = bool((len(quotes) + self._in_string) & 1)
        return at[outside], kinds[outside]

    def _without_escaped(self, quotes: Any, backslashes: Any, size: int) -> Any:
        """Return the quotes without those behind an odd number of backslashes."""
        if self._escaped:  # the block's first byte is
            quotes, backslashes = quotes[quotes != 0], backslashes[backslashes != 0]
        self._escaped = False
        if not len(backslashes):
            return quotes
        number = np.arange(len(backslashes))
        begins = np.diff(backslashes, prepend=-2) != 1
        first = np.maximum.accumulate(np.where(begins, number, 0))
        escaped = backslashes[(number - first) % 2 == 0] + 1
        self._escaped = bool(escaped[-1] == size)
        return quotes[~np.isin(quotes, escaped, assume_unique=True)]
