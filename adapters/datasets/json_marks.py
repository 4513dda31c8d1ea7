"""Where the values of a JSON array, or of JSON values one after the other, end: told without parsing them.

Vectorised as in Langdale & Lemire, "Parsing gigabytes of JSON per second" (VLDB Journal, 2019): only the positions
of quotes, backslashes, brackets and commas are looked at, so a long value costs memory no more than a short one.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from attrs import define

_QUOTE, _BACKSLASH, _OPEN, _CLOSE, _COMMA = 1, 2, 3, 4, 5
_LETTERS: Final = {b'"': _QUOTE, b"\\": _BACKSLASH, b"[{": _OPEN, b"]}": _CLOSE, b",": _COMMA}
_KINDS: Final = bytes(next((kind for letters, kind in _LETTERS.items() if one in letters), 0) for one in range(256))
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
        every = np.frombuffer(octets.tobytes().translate(_KINDS), np.uint8)
        at = np.flatnonzero(every != 0)
        kinds = every[at]
        quotes = kinds == _QUOTE
        self._take_out_escaped(quotes, at, kinds == _BACKSLASH, len(octets))
        inside = (np.cumsum(quotes, dtype=np.int32) + self._in_string) & 1
        if len(inside):
            self._in_string = bool(inside[-1])
        outside = (kinds >= _OPEN) & (inside == 0)
        return at[outside], kinds[outside]

    def _take_out_escaped(self, quotes: Any, at: Any, backslashes: Any, size: int) -> None:
        """Clear the places of `quotes` that stand behind an odd number of backslashes."""
        if self._escaped and len(at) and at[0] == 0:  # the block's first byte is
            quotes[0] = backslashes[0] = False
        self._escaped = False
        places = np.flatnonzero(backslashes)
        if not len(places):
            return
        number = np.arange(len(places))
        begins = np.diff(at[places], prepend=-2) != 1
        first = np.maximum.accumulate(np.where(begins, number, 0))
        active = places[(number - first) % 2 == 0]
        self._escaped = bool(at[active[-1]] == size - 1)
        following = active[active + 1 < len(at)] + 1
        quotes[following[at[following] == at[following - 1] + 1]] = False
