"""How a routing data set is laid out on a remote volume."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from domain.errors import UsageError

REQUIRED_FILES = ("train.jsonl", "val.jsonl", "metadata.json")
"""Files without which a folder is not a routing data set."""

PUBLISHED_FILES = ("train.jsonl", "val.jsonl", "eval.jsonl", "metadata.json")
"""Files that are published, in the order of the report: ``eval.jsonl`` where there is one, ``data.jsonl`` never."""

ANSWERS_FILE = "eval-answers.jsonl"
"""Reference answers of the held-out rows: published when that is asked for, fetched when they are there."""

LATEST = "routing_latest"
"""Folder that holds a copy of the data set to train on by default."""

_FOLDER_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}")


def dataset_name(name: str) -> str:
    """Return a data set's folder name; raises UsageError for one that is unsafe on a volume or reserved."""
    if not _FOLDER_NAME.fullmatch(name):
        raise UsageError(
            f"{name!r} cannot be a data set's name on a volume", hint="use letters, digits, '_', '-' and '.'"
        )
    return name


def remote_folder(remote_dir: str, name: str) -> str:
    """Return ``remote_dir/name`` relative to the volume's root; raises UsageError for a path that could leave it."""
    parts = [part for part in remote_dir.split("/") if part not in ("", ".")]
    for part in parts:
        if not _FOLDER_NAME.fullmatch(part):
            raise UsageError(f"remote folder {remote_dir!r} is not a plain relative path")
    return "/".join([*parts, dataset_name(name)])


def manifest_hashes(metadata: Mapping[str, Any]) -> dict[str, str]:
    """Return the sha256 per file name out of a data set's metadata; empty for one written without hashes."""
    files = metadata.get("files")
    if not isinstance(files, Mapping):
        return {}
    hashes = {name: entry.get("sha256") if isinstance(entry, Mapping) else entry for name, entry in files.items()}
    return {str(name): value for name, value in hashes.items() if isinstance(value, str)}
