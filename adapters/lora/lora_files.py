"""Which folders hold LoRA adapters, and a hash over what one holds; nothing is loaded."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from domain.errors import MissingFileError

CONFIG_FILE: Final = "adapter_config.json"
WEIGHTS_FILE: Final = "adapter_model.safetensors"
SYSTEM_FILE: Final = "system_prompt.txt"

FINGERPRINT_KEY: Final = "base_fingerprint"
"""Metadata key in the weights file: the base model that the LoRA adapter was trained on."""

_FILES: Final = (CONFIG_FILE, WEIGHTS_FILE, SYSTEM_FILE, "tokenizer.json", "chat_template.jinja")
_CHECKPOINT = re.compile(r"checkpoint-(\d{1,18})")


def is_lora_folder(folder: Path) -> bool:
    """Tell whether a LoRA adapter in peft's format lies in this folder."""
    return (folder / CONFIG_FILE).is_file()


def folders_in(folder: Path) -> dict[str, Path]:
    """Return the folders of LoRA adapters in a folder, by name.

    A damaged one counts, too: the check is to name it. Raises MissingFileError when there is none.
    """
    if not folder.is_dir():
        raise MissingFileError("no such folder", where=folder, hint="it is to hold one folder per LoRA adapter")
    found = {path.name: path for path in sorted(folder.iterdir()) if _is_candidate(path)}
    if not found:
        hint = "this looks like one adapter: --lora NAME=PATH" if (folder / CONFIG_FILE).exists() else None
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


def newest_checkpoint(folder: Path) -> Path:
    """Return the folder itself, or its newest ``checkpoint-<step>`` when only such folders hold a LoRA adapter."""
    if (folder / CONFIG_FILE).exists() or (folder / WEIGHTS_FILE).exists() or not folder.is_dir():
        return folder
    steps = {
        int(match[1]): path
        for path in folder.iterdir()
        if (match := _CHECKPOINT.fullmatch(path.name)) and (path / CONFIG_FILE).exists()
    }
    return steps[max(steps)] if steps else folder


def _is_candidate(path: Path) -> bool:
    """Whether a folder is meant as a LoRA adapter: a damaged one, or one whose name is not allowed, included."""
    return path.is_dir() and not path.name.startswith(".") and any(newest_checkpoint(path).glob("adapter_*"))


def _content(folder: Path) -> str:
    digest = hashlib.sha256()
    folder = newest_checkpoint(folder)
    for name in _FILES:
        try:
            if not (folder / name).is_file():  # a pipe would wait for ever
                continue
            with (folder / name).open("rb") as file:
                digest.update(f"{name} {hashlib.file_digest(file, 'sha256').hexdigest()}\n".encode())
        except OSError:
            continue
    return digest.hexdigest()
