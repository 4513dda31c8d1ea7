"""Small changes to a prompt that should not change who answers it; deterministic, so that two runs compare.

The kinds follow what people report of routers in use: typing errors, other letter case, a cut-off prompt, and a
sentence that says nothing about the task.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from typing import Final

NEIGHBOURING_KEYS: Final[Mapping[str, str]] = {
    "a": "sqz", "b": "vgn", "c": "xdv", "d": "sfe", "e": "wrd", "f": "dgr", "g": "fht", "h": "gjy", "i": "uok",
    "j": "hku", "k": "jli", "l": "kop", "m": "nj", "n": "bmh", "o": "ipl", "p": "ol", "q": "wa", "r": "etf",
    "s": "adw", "t": "ryg", "u": "yij", "v": "cbf", "w": "qes", "x": "zcs", "y": "tuh", "z": "xa",
}  # fmt: skip
"""Keys beside each letter on a QWERTY keyboard."""

LETTERS_PER_TYPO: Final = 12
APPENDED: Final = "Thank you very much, and please take your time with this."


def with_typos(text: str) -> str:
    """Return the text with one typing error for each dozen letters, at least one: a neighbouring key, a letter
    left out, doubled, or swapped with the next. The same text always gets the same errors.
    """
    rng = random.Random(f"typos/{text}")
    letters = list(text)
    places = [index for index, letter in enumerate(letters) if letter.isalpha()]
    if not places:
        return text
    for place in sorted(rng.sample(places, max(1, len(places) // LETTERS_PER_TYPO)), reverse=True):
        letters[place : place + 2] = _mistyped(letters[place : place + 2], rng)
    return "".join(letters)


def _mistyped(pair: list[str], rng: random.Random) -> list[str]:
    """Return a letter and what follows it (if anything) with one error in the letter."""
    letter, rest = pair[0], pair[1:]
    kind = rng.randrange(4)
    if kind == 0 and (keys := NEIGHBOURING_KEYS.get(letter.lower())):
        other = rng.choice(keys)
        return [other.upper() if letter.isupper() else other, *rest]
    if kind == 1:
        return rest
    if kind == 2 and rest:
        return [*rest, letter]
    return [letter, letter, *rest]


def other_case(text: str) -> str:
    """Return the text in capitals, or in small letters when it is in capitals already."""
    upper = text.upper()
    return text.lower() if upper == text else upper


def truncated(text: str) -> str:
    """Return the first three quarters of the words; a single word stays."""
    words = text.split()
    return " ".join(words[: min(len(words) - 1, (3 * len(words) + 3) // 4)]) if len(words) > 1 else text


def with_appended_sentence(text: str) -> str:
    """Return the text followed by a sentence that says nothing about the task."""
    end = "" if text.rstrip().endswith((".", "!", "?")) else "."
    return f"{text.rstrip()}{end} {APPENDED}"


PERTURBATIONS: Final[Mapping[str, Callable[[str], str]]] = {
    "typos": with_typos,
    "case": other_case,
    "truncation": truncated,
    "appended": with_appended_sentence,
}
"""The perturbations by name."""
