"""The port that reads prompts without labels."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol


class PromptReader(Protocol):
    """Reads a file of prompts: to route them, or to say what belongs to no adapter."""

    def read_prompts(self, path: Path) -> list[str]:
        """Return the prompts in file order, at least one; ``-`` reads standard input.

        A line is a JSON object (a prompt under ``text`` or ``prompt``, or a conversation whose first human turn
        is meant), a JSON string, or, except in ``.jsonl`` and ``.json`` files, plain text. Blank lines do not count.

        Raises:
            MissingFileError: no such file.
            DataRejectedError: a line gives no prompt; the message names the file and the line.
            StorageError: the file system refused.
        """
        ...
