"""Changed copies of training prompts, so that a router meets in training what prompts look like in use.

Typing errors, and phrases that accompany a request within its own sentence. Phrases in sentences of their own need no
copies: they become pieces of their own (see :mod:`domain.pieces`). `evaluate` measures with other wordings, those of
:mod:`domain.robustness`, so that its figures do not flatter.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Final

LETTERS_PER_ERROR: Final = 20
LONGEST_PHRASE: Final = 6
"""Words in a phrase that is joined to a request, at most; longer ones stand for themselves."""

_JOINTS: Final = (", ", " ", ": ", " - ")
_FRAMES: Final = (
    "could you please {}",
    "can you {}",
    "please {}",
    "{} please",
    "i need help: {}",
    "just wondering, {}",
    "ok so {}",
    "tell me, {}",
    "hmm {}",
    "i would like to know: {}",
    "is it possible to {}",
    "{} if that is possible",
    "{} asap",
    "my question: {}",
)


def mistyped(text: str, seed: str) -> str:
    """Return the text with about one typing error per `LETTERS_PER_ERROR` characters, at least one.

    Neighbours swapped, a letter left out, doubled or replaced by another of the text, a space left out. The same
    arguments always give the same text.
    """
    rng = random.Random(f"mistyped/{seed}/{text}")
    letters = list(text)
    for _ in range(max(1, round(len(letters) / LETTERS_PER_ERROR))):
        if len(letters) < 3:
            break
        place, kind = rng.randrange(len(letters) - 1), rng.randrange(5)
        if kind == 0:
            letters[place], letters[place + 1] = letters[place + 1], letters[place]
        elif kind == 1:
            del letters[place]
        elif kind == 2:
            letters.insert(place, letters[place])
        elif kind == 3:
            letters[place] = rng.choice(letters)
        elif spaces := [index for index, letter in enumerate(letters) if letter == " "]:
            del letters[rng.choice(spaces)]
    return "".join(letters)


def accompanied(text: str, phrases: Sequence[str], seed: str) -> str:
    """Return the text joined to one or two short phrases, or in a frame such as "could you please …".

    Args:
        text: the request.
        phrases: phrases to take from; long ones are not taken. May be empty.
        seed: decides among them, together with the text.
    """
    rng = random.Random(f"accompanied/{seed}/{text}")
    short = [each for each in phrases if len(each.split()) <= LONGEST_PHRASE and any(map(str.isalpha, each))]
    kind = rng.random()
    if kind < 0.4 or not short:
        return rng.choice(_FRAMES).replace("{}", text)
    before, after = (rng.choice(short).rstrip(".!,?:") for _ in range(2))
    request = text[:1].lower() + text[1:] if rng.random() < 0.5 else text
    if kind < 0.65:
        return before + rng.choice(_JOINTS) + request
    ended = request.rstrip(".!?") + rng.choice(_JOINTS[:2]) + after
    return ended if kind < 0.85 else before + rng.choice(_JOINTS[:2]) + ended
