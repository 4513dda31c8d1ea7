"""Packaged prompts that belong to no adapter, written for this project, in two dozen languages."""

from __future__ import annotations

from functools import cache


@cache
def background_phrases() -> tuple[str, ...]:
    """Return what accompanies requests and asks for nothing: greetings, thanks, signatures, system prompts."""
    from adapters.companions.background import PHRASES

    return tuple(PHRASES.splitlines())


@cache
def generic_prompts() -> tuple[str, ...]:
    """Return prompts of many kinds that people send to assistants, as examples of what is out of scope."""
    from adapters.companions.generic import PROMPTS

    return tuple(PROMPTS.splitlines())
