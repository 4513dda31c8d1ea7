"""Finding a model's folder: on this disk, or out of the Hugging Face hub."""

from __future__ import annotations

import re
from pathlib import Path

from huggingface_hub import snapshot_download

from adapters.hub_errors import hub_errors
from domain.errors import DataRejectedError, MissingFileError, UsageError

_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?")
_FILES = ["*.json", "*.safetensors", "*.txt", "*.model", "*.jinja"]  # never pickles, never code
_NOT = ["*/*", "consolidated*"]  # other formats of the same weights


def model_folder(name_or_path: str) -> Path:
    """Return the folder of a base model, downloading it only when there is no such folder here.

    A folder never causes a network request. A hub id is looked up online and taken from the hub's own cache when
    the hub cannot be reached (or when ``HF_HUB_OFFLINE=1``).

    Raises:
        MissingFileError: it looks like a path and is not there.
        UsageError: it can be neither a path nor an id.
        DataRejectedError: it is a LoRA adapter, or no model.
        RemoteError: the hub does not have it, does not show it to you, or cannot be reached.
    """
    path = Path(name_or_path).expanduser()
    if path.is_dir():
        return _checked(path)
    if path.is_file():
        raise UsageError("is a file", where=f"base model {name_or_path}", hint="give the model's folder")
    if name_or_path.startswith((".", "/", "~")) or name_or_path.count("/") > 1:
        raise MissingFileError("no such folder", where=f"base model {name_or_path}")
    if not _HUB_ID.fullmatch(name_or_path):
        raise UsageError("is neither a folder nor a hub id", where=f"base model {name_or_path}")
    return _checked(_download(name_or_path))


def _download(hub_id: str) -> Path:
    otherwise = "name a folder that is here, or leave the base model out to use the embedded one"
    with hub_errors("model", f"base model {hub_id}", otherwise):
        return Path(snapshot_download(hub_id, allow_patterns=_FILES, ignore_patterns=_NOT, etag_timeout=5))


def _checked(folder: Path) -> Path:
    if (folder / "adapter_config.json").is_file():
        # transformers would silently load it on top of the base that it names
        raise DataRejectedError("is a LoRA adapter, not a base model", where=folder, hint="pass it with --lora")
    if not (folder / "config.json").is_file():
        raise DataRejectedError("has no config.json, so it is not a model in Hugging Face format", where=folder)
    return folder
