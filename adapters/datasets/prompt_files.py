"""Prompts in JSON Lines or plain text files, or from standard input."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import orjson

from domain.conversations import Rejection, extract_prompt
from domain.errors import DataRejectedError, MissingFileError, StorageError


class PromptFileReader:
    """A :class:`application.ports.PromptReader` on the local file system."""

    def read_prompts(self, path: Path) -> list[str]:
        """Read one file, or standard input for ``-``; see the port for the contract."""
        strict = path.suffix in (".jsonl", ".json")
        prompts = []
        # Split at \n only: U+2028 and its like are not line ends.
        for number, raw in enumerate(_content(path).removeprefix(b"\xef\xbb\xbf").split(b"\n"), start=1):
            if not raw.strip():
                continue
            try:
                prompts.append(_prompt(raw, strict))
            except ValueError as error:
                raise DataRejectedError(str(error), where=f"{path}:{number}") from error
        if not prompts:
            raise DataRejectedError("holds no prompts", where=path)
        return prompts


def _content(path: Path) -> bytes:
    if str(path) == "-":
        return sys.stdin.buffer.read()
    try:
        return path.read_bytes()
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
        what = "is a folder, not a file" if path.is_dir() else "no such file"
        raise MissingFileError(what, where=path) from None
    except OSError as error:
        raise StorageError(f"cannot read: {error.strerror or error}", where=path) from error


def _prompt(raw: bytes, strict: bool) -> str:
    """Return the prompt of one line; raises ValueError when it has none."""
    try:
        text = raw.decode().strip()
    except UnicodeDecodeError:
        raise ValueError("is no UTF-8 text; compressed files and other encodings are not read") from None
    if text[0] not in '{"' and not strict:
        return text
    try:
        row: Any = orjson.loads(text)
    except orjson.JSONDecodeError as error:
        if strict:
            raise ValueError(f"is no JSON value ({error.msg}); one per line is expected") from None
        return text  # plain text that happens to begin with a quotation mark or a brace
    prompt = row if isinstance(row, str) else _from_row(row)
    if not prompt.strip():
        raise ValueError("the prompt is empty")
    return prompt


def _from_row(row: Any) -> str:
    if isinstance(row, dict):
        for key in ("text", "prompt"):
            if isinstance(row.get(key), str):
                return str(row[key])
    found = extract_prompt(row)
    if isinstance(found, Rejection):
        raise ValueError(f"no 'text', no 'prompt' and no conversation: {found.detail}")
    return found
