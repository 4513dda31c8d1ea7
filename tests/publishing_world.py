"""Small routing data sets to publish."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

ADAPTERS = ("calendar", "claim-window", "provider-select")


def dataset_files(tag: str = "a", *, with_eval: bool = True, manifest: bool = True) -> dict[str, bytes]:
    """Return a data set's files by name; another `tag` gives other rows."""

    def rows(split: str, per_adapter: int) -> bytes:
        return b"".join(
            json.dumps(
                {"text": f"{tag} {split} {name} {i}", "label": label, "adapter": name, "source_id": f"{name}_{i}"}
            ).encode()
            + b"\n"
            for i in range(per_adapter)
            for label, name in enumerate(ADAPTERS)
        )

    files = {"train.jsonl": rows("train", 4), "val.jsonl": rows("val", 2)}
    files["data.jsonl"] = files["train.jsonl"] + files["val.jsonl"]
    if with_eval:
        files["eval.jsonl"] = rows("eval", 2)
    metadata = {
        "dataset_name": "routing",
        "created_at": "2025-11-24T12:34:56",
        "adapters": {name: {"label": label, "source_dataset": "x.jsonl"} for label, name in enumerate(ADAPTERS)},
        "samples": {"train": 12, "val": 6, "eval": 6 if with_eval else 0, "total": 24},
    }
    if manifest:
        metadata["files"] = {
            name: {"sha256": hashlib.sha256(content).hexdigest(), "size": len(content)}
            for name, content in files.items()
        }
    files["metadata.json"] = json.dumps(metadata).encode()
    return files


def write_dataset(folder: Path, files: dict[str, bytes]) -> Path:
    folder.mkdir(parents=True)
    for name, content in files.items():
        (folder / name).write_bytes(content)
    return folder


def published(files: dict[str, bytes]) -> dict[str, bytes]:
    """Return what of a data set belongs on a volume."""
    return {name: content for name, content in files.items() if name != "data.jsonl"}
