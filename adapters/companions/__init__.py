"""Packaged prompts that belong to no adapter, written for this project, in two dozen languages."""

from __future__ import annotations

from functools import cache
from importlib.resources import files


@cache
def background_phrases() -> tuple[str, ...]:
    """Return what accompanies requests and asks for nothing: greetings, thanks, signatures, system prompts."""
    return _lines("background.txt")


@cache
def generic_prompts() -> tuple[str, ...]:
    """Return prompts of many kinds that people send to assistants, as examples of what is out of scope."""
    return _lines("generic.txt")


def _lines(name: str) -> tuple[str, ...]:
    return tuple((files(__name__) / name).read_text("utf-8").splitlines())
