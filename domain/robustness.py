"""Company that a prompt may come in, and damage it may take, without another adapter becoming the right one.

``evaluate`` changes each prompt in each of these ways and reports what becomes of the decisions. The wordings stand
in ``domain/change_wordings.py``; training must use none of them, or the report would flatter.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Final

from attrs import frozen

from domain.change_wordings import WORDINGS

TYPING_ERRORS: Final = 0.05
"""Share of the letters that are mistyped; one letter at least."""
SPACES_LOST: Final = 0.25
"""Share of the spaces that are lost; one at least."""

Damage = Callable[[str, random.Random], str]
"""Returns a changed text; every choice is drawn from the generator."""


@frozen
class Change:
    """One kind of change to a prompt that leaves unchanged what is asked for.

    Attributes:
        name: short name, as reports show it.
        description: what happens to a prompt, in a few words.
        damage: makes the changed text.
    """

    name: str
    description: str
    damage: Damage

    def __call__(self, text: str, seed: int = 0) -> str:
        """Return the changed text: a function of kind, text and seed and nothing else.

        A text that the kind cannot change is returned as it is, such as one without spaces that could be lost.
        """
        return self.damage(text, random.Random(f"{self.name}/{seed}/{text}"))


def ended(text: str) -> str:
    """Return the text with a full stop, unless it ends in a mark already; trailing white space goes."""
    text = text.rstrip()
    return text if not text or not text[-1].isalnum() else f"{text}."


def worded(wordings: Sequence[str]) -> Damage:
    """Return a change that puts the prompt into one of the wordings.

    ``{prompt}`` in a wording stands for the prompt, ``{ended}`` for the prompt as a finished sentence and
    ``{quoted}`` for it with ``> `` before each of its lines.
    """

    def put(text: str, rng: random.Random) -> str:
        forms = {"prompt": text, "ended": ended(text), "quoted": re.sub("^", "> ", text, flags=re.MULTILINE)}
        return re.sub(r"\{(prompt|ended|quoted)\}", lambda match: forms[match[1]], rng.choice(wordings))

    return put


def mistyped(text: str, rng: random.Random) -> str:
    """Return the text with letters swapped with the next, doubled or left out."""
    letters = list(text)
    places = [i for i, letter in enumerate(letters) if letter.isalpha()]
    for i in rng.sample(places, min(len(places), max(1, round(len(places) * TYPING_ERRORS)))):
        following = letters[i + 1 : i + 2]
        match rng.choice(("swapped", "doubled", "dropped")):
            case "swapped" if following and following[0].isalpha():
                letters[i : i + 2] = [following[0], letters[i]]
            case "dropped":
                letters[i] = ""
            case _:
                letters[i] *= 2
    changed = "".join(letters)
    return changed if any(map(str.isalpha, changed)) else text


def crowded(text: str, rng: random.Random) -> str:
    """Return the text without some of its spaces."""
    places = [match.start() for match in re.finditer(r"(?<=\S) (?=\S)", text)]
    lost = set(rng.sample(places, max(1, round(len(places) * SPACES_LOST)))) if places else set()
    return "".join(letter for i, letter in enumerate(text) if i not in lost)


def recased(text: str, rng: random.Random) -> str:
    """Return the text in other letters: all capitals, none, each word with one, or no marks between the words."""
    forms = [text.upper(), text.lower(), text.title(), re.sub(r"[.,;:!?'\"]+", "", text)]
    changed = sorted({form for form in forms if form != text and form.strip()})
    return rng.choice(changed) if changed else text


_DAMAGE: Mapping[str, tuple[str, Damage]] = {
    "typos": ("letters swapped, doubled or left out, one in twenty", mistyped),
    "spaces": ("a quarter of the spaces missing", crowded),
    "case": ("all capitals, no capitals or no punctuation", recased),
}

_COMPANY: Final = (
    ("thanks", "greeting"),
    ("appended", "small-talk", "greeting"),
    ("typos", "thanks", "greeting"),
    ("small-talk", "e-mail"),
    ("greeting", "system-prompt"),
    ("appended", "chat-frame"),
    ("emoji", "small-talk", "thanks"),
    ("context", "quoted"),
)


def together(changes: Sequence[Change]) -> Change:
    """Return the kind that makes two or three of `changes` at once, as they come together in life."""
    by_name = {change.name: change.damage for change in changes}

    def damage(text: str, rng: random.Random) -> str:
        for name in rng.choice(_COMPANY):
            text = by_name[name](text, rng)
        return text

    return Change("together", "two or three of these at once", damage)


_ALONE: Final = (
    *(Change(name, text, worded(wordings)) for name, (text, wordings) in WORDINGS.items()),
    *(Change(name, text, damage) for name, (text, damage) in _DAMAGE.items()),
)

CHANGES: Final[tuple[Change, ...]] = (*_ALONE, together(_ALONE))
"""The kinds, in the order in which reports show them."""
