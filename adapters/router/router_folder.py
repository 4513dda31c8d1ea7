"""The folder form of a router: ``model.safetensors``, ``config.json`` and a model card, ready to be pushed to a hub.

Everything that counts stands in ``model.safetensors``; ``config.json`` repeats it for people and tools, and reading
the folder refuses one that says anything else.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import orjson

from adapters.files.staged_folder import staged_folder
from adapters.router.router_bytes import FORMAT, from_bytes, to_bytes
from adapters.router.router_card_json import card_to_json
from application.ports import TrainedRouter
from application.routing.router_model_card import model_card
from domain.errors import RouterFileError, StorageError, TargetExistsError

WEIGHTS: Final = "model.safetensors"
CONFIG: Final = "config.json"
MODEL_TYPE: Final = "moe_lora_router"
_FILES: Final = frozenset({WEIGHTS, CONFIG, "README.md", ".gitattributes"})


def write_folder(router: TrainedRouter, target: Path) -> None:
    """Write the folder: complete or not at all; an earlier router's folder, or an empty one, is replaced.

    Raises:
        TargetExistsError: something else is there.
        StorageError: the file system refused.
    """
    weights = to_bytes(router)
    sha256 = from_bytes(weights).sha256
    assert sha256 is not None
    check_replaceable(target)
    try:
        with staged_folder(target, replaceable=_is_router_folder) as folder:
            folder.write(WEIGHTS, weights)
            options = orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE
            folder.write(CONFIG, orjson.dumps(config(router, sha256), option=options))
            folder.write("README.md", model_card(router.card, sha256).encode())
            folder.publish()
    except (StorageError, TargetExistsError) as error:  # its hints are about data sets
        raise type(error)(error.what, where=target) from error


def check_replaceable(folder: Path) -> None:
    """Raise TargetExistsError unless nothing but a router, or nothing at all, is under the name."""
    if folder.exists() and not _is_router_folder(folder):
        kind = "a folder with other files" if folder.is_dir() else "a file, and a router without suffix is a folder"
        raise TargetExistsError(f"is {kind}; it is not replaced", where=folder)


def config(router: TrainedRouter, sha256: str) -> dict[str, Any]:
    """Return the content of ``config.json``."""
    names = router.card.labels.names
    return {
        "model_type": MODEL_TYPE,
        "architectures": ["MoeLoraRouter"],
        "format": FORMAT,
        "id2label": {str(label): name for label, name in enumerate(names)},
        "label2id": router.card.labels.as_mapping(),
        "num_labels": len(names),
        "sha256": sha256,
        "router": card_to_json(router.card),
    }


def check_config(router: TrainedRouter, content: bytes) -> None:
    """Raise RouterFileError unless ``config.json`` says what the weights say; other tools may add to it."""
    try:
        found = orjson.loads(content)
    except orjson.JSONDecodeError as error:
        raise RouterFileError(f"its {CONFIG} is no JSON: {error}") from error
    if not isinstance(found, dict):
        raise RouterFileError(f"its {CONFIG} is no JSON object")
    for key, value in config(router, router.sha256 or "").items():
        if found.get(key) != value:
            raise RouterFileError(
                f"its {CONFIG} and {WEIGHTS} differ in {key!r}: {_short(found.get(key))} and {_short(value)}",
                hint="the weights decide; export the folder again",
            )


def _short(value: Any) -> str:
    text = orjson.dumps(value).decode()
    return text if len(text) <= 80 else text[:77] + "…"


def _is_router_folder(folder: Path) -> bool:
    """Tell whether nothing but a router, or nothing at all, is in the folder."""
    return folder.is_dir() and {path.name for path in folder.iterdir()} <= _FILES
