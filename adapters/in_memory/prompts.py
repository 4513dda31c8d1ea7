"""Prompts kept in a dictionary."""

from __future__ import annotations

from pathlib import Path

from attrs import define, field

from domain.errors import DataRejectedError, MissingFileError
from domain.turns import TurnChoice


@define
class InMemoryPromptReader:
    """A :class:`application.ports.PromptReader` of prompts that were put there.

    Attributes:
        files: prompts by path.
    """

    files: dict[Path, list[str]] = field(factory=dict)

    def read_prompts(self, path: Path, turn: TurnChoice = TurnChoice.LAST) -> list[str]:
        """Return the prompts under `path`."""
        if path not in self.files:
            raise MissingFileError("no such file", where=path)
        if not self.files[path]:
            raise DataRejectedError("holds no prompts", where=path)
        return list(self.files[path])
