"""What answers prompts, as one short word: a file of answers goes on only with the setting that began it."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path

_FILES = ("adapter_config.json", "adapter_model.safetensors", "system_prompt.txt")


def setting(*parts: object) -> str:
    """Return 12 hexadecimal digits that change when any part's ``repr`` does."""
    return hashlib.sha256(repr(parts).encode("utf-8", "backslashreplace")).hexdigest()[:12]


def lora_contents(folders: Mapping[str, Path]) -> dict[str, str]:
    """Return the hash of each LoRA adapter's files, wherever they lie; what cannot be read is left to the check."""
    return {name: _content(folder) for name, folder in sorted(folders.items())}


def _content(folder: Path) -> str:
    digest = hashlib.sha256()
    for name in _FILES:
        try:
            with (folder / name).open("rb") as file:
                digest.update(f"{name} {hashlib.file_digest(file, 'sha256').hexdigest()}\n".encode())
        except OSError:
            continue
    return digest.hexdigest()
