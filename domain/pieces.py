"""A prompt as the pieces that are routed one by one: its sentences and lines.

One vector over a whole prompt mixes the request with its company: a greeting, a pasted system prompt, a document.
Each piece is read by itself, and the pieces that say something decide (see docs/experiments.md). The sentences of a
short prompt may say more together than each alone, so that the whole is read beside them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from attrs import frozen

from domain.samples import routing_view

LONGEST_PIECE: Final = 24
"""Longer sentences are divided into parts of equal length, in words; in characters where a script has no spaces."""

MOST_PIECES: Final = 48
"""Of a longer prompt as many of the first as of the last are read: requests stand at the ends of documents."""

MOST_CHARACTERS: Final = 40_000
"""Of a longer prompt the two ends are looked at, half of this each."""

_LINES = re.compile(r"[\r\n\v\f\u0085\u2028\u2029]+")
# Each run of marks is tried once and gives nothing back: twenty thousand full stops must not take seconds.
_ENDS = re.compile(r"(?<![.!?;])[.!?;]++[\"'”’)\]]*+(?=\s)|[。！？；؟।॥።…]+[”』」）]*")
# A full stop after these ends no sentence: "Dr.", "No.", "e.g.", the number of a list's entry, and "no." before one.
_ABBREVIATED = re.compile(r"(?:^|\s)(?:[A-Z][a-z]{0,2}|(?:\w\.)+\w)\.$|^\s*\d{1,3}\.$")
_BEFORE_NUMBER = re.compile(r"(?:^|[\s(])(?:no|nos|nr|fig|vol|pp?|ref|apt|ext|tel|ca|approx)\.$", re.IGNORECASE)
_NUMBER = re.compile(r"\s+\d")
_LONGEST_ABBREVIATION: Final = 12
_HEADING = re.compile(r"\s*[\w*#]{1,20}(?: [\w*]{1,20})?[*]{0,2}:[*]{0,2}(?=\s)")  # "User:", "**Task:**"
_MARKS: Final = " \t\u00a0\u3000>#*•·|`~=_–—-"
_LIST_NUMBER = re.compile(r"\d{1,3}[.)]\s")
_TAG_BEFORE = re.compile(r"(?:<[/|]{0,2}\w{1,24}\|?>|\[/?[A-Z]{2,8}\])\s{0,8}")  # "<user>", "<|im_start|>", "[INST]"
_TAG_AFTER = re.compile(r"\s{0,8}(?:<[/|]{0,2}\w{1,24}\|?>|\[/?[A-Z]{2,8}\])$")
_UNSPACED = re.compile(r"[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff]")


@frozen
class Pieces:
    """The pieces of one prompt.

    Attributes:
        texts: the pieces in reading order, as the base model reads them; at least one. Of a prompt of several pieces
            and at most `LONGEST_PIECE` words the last one is the whole.
        shortened: whether text from the middle of the prompt was left out.
    """

    texts: tuple[str, ...]
    shortened: bool = False


def pieces_of(text: str) -> Pieces:
    """Return the pieces of a prompt; one without letters or digits is one piece, as it is.

    Marks of lists, quotes, headings and chat templates at the ends of a line do not belong to a piece. Capitals
    throughout a piece are read as small letters (see :func:`domain.samples.routing_view`). No language is assumed,
    nor spaces between words or sentences.
    """
    half = MOST_CHARACTERS // 2
    ends = (text,) if len(text) <= MOST_CHARACTERS else (text[:half], text[-half:])
    found = [routing_view(piece) for end in ends for piece in _split(end)] or [routing_view(ends[0])]
    if len(ends) == 1 and len(found) > 1 and len(_units(whole := " ".join(found))) <= LONGEST_PIECE:
        found.append(whole)
    if len(found) > MOST_PIECES:
        found = [*found[: MOST_PIECES // 2], *found[-(MOST_PIECES // 2) :]]
        return Pieces(tuple(found), shortened=True)
    return Pieces(tuple(found), shortened=len(ends) > 1)


def _split(text: str) -> Iterator[str]:
    for line in _LINES.split(text):
        start = 0
        for end in _ends(line):
            if end < len(line) and _is_abbreviated(line[max(start, end - _LONGEST_ABBREVIATION) : end], line, end):
                continue
            sentence, start = _bare(line[start:end]), end
            if any(letter.isalnum() for letter in sentence):
                yield from _parts(sentence)


def _is_abbreviated(before: str, line: str, end: int) -> bool:
    """Tell whether the full stop between `before` and the rest of the line belongs to a word, not to a sentence."""
    if _ABBREVIATED.search(before):
        return True
    return _BEFORE_NUMBER.search(before) is not None and _NUMBER.match(line, end) is not None


def _ends(line: str) -> Iterator[int]:
    """Yield where the heading of a line ends, if it has one, its sentences, and the line itself."""
    heading = _HEADING.match(line)
    if heading is not None:
        yield heading.end()
    yield from (match.end() for match in _ENDS.finditer(line))
    yield len(line)


def _bare(sentence: str) -> str:
    """Return the sentence without marks around it."""
    bare = sentence
    while True:
        before = bare
        bare = bare.strip()
        for mark in (_LIST_NUMBER, _TAG_BEFORE):
            if found := mark.match(bare):
                bare = bare[found.end() :]
        if found := _TAG_AFTER.search(bare, max(len(bare) - 40, 0)):
            bare = bare[: found.start()]
        elif bare == before:
            bare = bare.strip(_MARKS)
        if bare == before:
            return bare


def _parts(sentence: str) -> Iterator[str]:
    """Divide a long sentence between words; between characters where the script has no spaces."""
    units = _units(sentence)
    size = -(-len(units) // -(-len(units) // LONGEST_PIECE))
    for start in range(0, len(units), size):
        yield "".join(units[start : start + size]).strip()


def _units(sentence: str) -> list[str]:
    units: list[str] = []
    for word in re.findall(r"\S+\s*", sentence):
        units += re.findall(r".\s*", word, re.DOTALL) if _UNSPACED.search(word) else [word]
    return units
