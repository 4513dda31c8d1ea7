"""The port that reads prompts without labels."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from domain.turns import TurnChoice


class PromptReader(Protocol):
    """Reads a file of prompts that belong to no adapter."""

    def read_prompts(self, path: Path, turn: TurnChoice = TurnChoice.LAST) -> list[str]:
        """Return the prompts in file order, at least one; ``-`` reads standard input.

        A line is a JSON object (a text or a conversation, of which `turn` tells what is read), a JSON string, or,
        except in ``.jsonl`` and ``.json`` files, plain text. Blank lines do not count.

        Raises:
            MissingFileError: no such file.
            DataRejectedError: a line gives no prompt; the message names the file and the line.
            StorageError: the file system refused.
        """
        ...
