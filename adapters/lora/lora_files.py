"""Which folders hold LoRA adapters, and a hash over what one holds; nothing is loaded."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from domain.errors import MissingFileError
from domain.labels import ADAPTER_NAME

_CONFIG: Final = "adapter_config.json"
_FILES: Final = (_CONFIG, "adapter_model.safetensors", "system_prompt.txt")


def folders_in(folder: Path) -> dict[str, Path]:
    """Return the folders of LoRA adapters in a folder, by name.

    A damaged one counts, too: the check is to name it. Raises MissingFileError when there is none.
    """
    if not folder.is_dir():
        raise MissingFileError("no such folder", where=folder, hint="it is to hold one folder per LoRA adapter")
    found = {path.name: path for path in sorted(folder.iterdir()) if _is_candidate(path)}
    if not found:
        hint = "this looks like one adapter: --lora NAME=PATH" if (folder / _CONFIG).exists() else None
        raise MissingFileError("holds no folder of a LoRA adapter", where=folder, hint=hint)
    return found


def _require(folders: Mapping[str, Path]) -> None:
    for name, folder in folders.items():
        if not folder.exists():
            raise MissingFileError("no such folder", where=folder, hint=f"it was named as LoRA adapter {name}")


def lora_folders(loras: Mapping[str, Path], lora_dir: Path | None) -> dict[str, Path]:
    """Return the folders of LoRA adapters by name: `loras` go before those in `lora_dir`.

    Raises:
        MissingFileError: a folder is not there, or `lora_dir` holds no LoRA adapter.
    """
    _require(loras)
    return ({} if lora_dir is None else folders_in(lora_dir)) | dict(loras)


def contents(folders: Mapping[str, Path]) -> dict[str, str]:
    """Return the hash of each LoRA adapter's files, wherever they lie; what cannot be read is left to the check."""
    return {name: _content(folder) for name, folder in sorted(folders.items())}


def _is_candidate(path: Path) -> bool:
    return path.is_dir() and ADAPTER_NAME.fullmatch(path.name) is not None and any(path.glob("adapter_*"))


def _content(folder: Path) -> str:
    digest = hashlib.sha256()
    for name in _FILES:
        try:
            with (folder / name).open("rb") as file:
                digest.update(f"{name} {hashlib.file_digest(file, 'sha256').hexdigest()}\n".encode())
        except OSError:
            continue
    return digest.hexdigest()
