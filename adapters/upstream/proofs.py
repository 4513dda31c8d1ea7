"""Proving an upstream's adapters: each changes the base model's answers, in its own way.

Servers load adapters whose modules do not fit and answer with the bare base model in silence; the answer's ``model``
says the adapter's name all the same. So each adapter is asked the same as the base model, and what comes back is
compared: by the probabilities of the first token where the upstream tells them, else by the texts.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from attrs import frozen

LEAST: Final = 1e-3
"""Least difference of log-probabilities that counts as one."""

NOISE_FACTOR: Final = 3.0
"""A difference must be so many times that between two answers of the base model itself."""

TOKENS: Final = 8


@frozen
class Sign:
    """What one model said to one prompt.

    Attributes:
        text: its greedy answer.
        first: log-probabilities of the likeliest first tokens; empty where the upstream does not tell.
    """

    text: str
    first: Mapping[str, float]


def probe_body(prompt: str) -> dict[str, Any]:
    """Return the request that a proof asks with."""
    return {
        "messages": [{"role": "user", "content": prompt}],
        "max_tokens": TOKENS,
        "temperature": 0.0,
        "logprobs": True,
        "top_logprobs": 5,
    }


def sign(answer: Mapping[str, Any]) -> Sign:
    """Return what an answer to `probe_body` shows."""
    choice = (answer.get("choices") or [{}])[0]
    message = choice.get("message") or {}
    text = str(message.get("content") or message.get("reasoning_content") or message.get("reasoning") or "")
    content = (choice.get("logprobs") or {}).get("content") or [{}]
    top = content[0].get("top_logprobs") or []
    return Sign(text, {str(each.get("token")): float(each.get("logprob", 0.0)) for each in top})


def distance(one: Sign, other: Sign) -> float:
    """Return how far two answers lie apart: the largest difference of a first token's log-probability.

    Infinite where they share no likely token, or where only texts are known and differ.
    """
    if one.first and other.first:
        shared = one.first.keys() & other.first.keys()
        return max((abs(one.first[token] - other.first[token]) for token in shared), default=float("inf"))
    return 0.0 if one.text == other.text else float("inf")


def problems(base: Sequence[Sequence[Sign]], adapters: Mapping[str, Sequence[Sign]]) -> dict[str, str]:
    """Return the adapters that prove nothing, with the reason.

    Args:
        base: the base model's answers to the prompts, asked twice.
        adapters: each adapter's answers to the same prompts.
    """
    least = [max(LEAST, NOISE_FACTOR * distance(one, two)) for one, two in zip(*base, strict=True)]

    def same(one: Sequence[Sign], other: Sequence[Sign]) -> bool:
        return not any(distance(a, b) > limit for a, b, limit in zip(one, other, least, strict=True))

    found = {}
    for name, signs in adapters.items():
        twins = [other for other, theirs in adapters.items() if other != name and same(signs, theirs)]
        if same(signs, base[0]):
            found[name] = "it answers exactly as the base model does"
        elif twins:
            found[name] = f"it answers exactly as {', '.join(twins)} does"
    return found
