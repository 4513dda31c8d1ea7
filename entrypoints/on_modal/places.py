"""Where things are in the app's containers, for whoever calls it; loads nothing of Modal."""

from __future__ import annotations

import hashlib
import posixpath
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from domain.errors import UsageError
from entrypoints.settings import Places

THERE: Final = Places(
    Path("/output/router-head.safetensors"), Path("/output/tensorboard"), "Qwen/Qwen3-VL-8B-Instruct"
)
"""The places in a container; the base model is downloaded into the cache volume on first use."""

ROUTER_WITH_TORCH_FILE: Final = THERE.router.with_suffix(".pt")
"""Where training puts a router unless told otherwise: beside it the torch file that the first scripts wrote."""

OUTPUT: Final = "routing-output"
"""Volume that routers and logs are written to."""

DATASETS_FOLDER: Final = "datasets"
"""Folder of the data volume that is mounted at ``/datasets``."""

VOLUMES: Final[Mapping[str, str]] = {
    "/checkpoints": "moe-lora-checkpoints",
    "/data": "claimhawk-training-data",
    "/output": OUTPUT,
    "/cache": "moe-router-cache",
}
"""Where the volumes lie in a container, besides the one with data sets, which the settings name."""

MOUNTS: Final = ("/datasets", *VOLUMES)
"""Everything that a container sees besides its own disk."""

_WRITTEN: Final = ("/output", "/cache")

EVALUATION: Final = Path("/output/router-eval.json")
LORA_DIR: Final = Path("/checkpoints")
LORA_FOLDERS: Final[Mapping[str, str]] = {"calendar": "calendar-tasks"}
"""Folders of LoRA adapters that are not named for their adapter."""


MOST_SHARED: Final = 64
"""Prompts of a call that an endpoint takes; more are quicker in batches of a container of their own."""


def shared_tags(router: Path, base_model: str | None, lora_dir: Path | None) -> dict[str, str]:
    """Return what an endpoint says of what it serves, and a caller of what it asks for: ``router`` and ``loras``."""
    described = {"router": f"{router} {base_model or ''}", "loras": str(lora_dir or LORA_DIR)}
    return {name: hashlib.sha256(text.encode()).hexdigest()[:12] for name, text in described.items()}


def written_path(path: Path, what: str) -> Path:
    """Return where a container writes: a relative path lies below ``/output``.

    Raises UsageError for a place on no volume that is written to: it would be gone with the container.
    """
    there = _normal(posixpath.join("/output", path))
    if not _below(there, _WRITTEN):
        raise UsageError(
            f"{what} would be lost: a container's own disk is gone when it ends",
            where=there,
            hint="name a place below /output; a relative path means one there",
        )
    return there


def read_path(path: Path, what: str, root: str | None = None) -> Path:
    """Return where a container reads: a relative path lies below `root`, if there is one.

    Raises UsageError for a place on no volume: a container does not see this machine's files.
    """
    if root is None and not path.is_absolute():
        raise UsageError(
            f"{what} is a path of this machine, which a container does not see",
            where=path,
            hint=f"containers see {', '.join(MOUNTS)}; `moe-router publish` puts data sets into /datasets",
        )
    there = _normal(posixpath.join(root or "/", path))
    if not _below(there, MOUNTS):
        raise UsageError(f"{what} lies on no volume", where=there, hint=f"containers see {', '.join(MOUNTS)}")
    return there


def _normal(path: str) -> Path:
    return Path(posixpath.normpath(path))


def _below(path: Path, roots: tuple[str, ...]) -> bool:
    return any(path.is_relative_to(root) for root in roots)
