"""The folder form of a router: ``model.safetensors``, ``config.json`` and a model card, ready to be pushed to a hub.

Everything that counts stands in ``model.safetensors``; ``config.json`` repeats it for people and tools, and reading
the folder refuses one that says anything else.
"""

from __future__ import annotations

import hashlib
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

import orjson

from adapters.files.regular_files import SpecialFileError, read_regular
from adapters.files.staged_folder import FolderKind, StagedFolder, other_entries, staged_folder
from adapters.router.router_bytes import FORMAT, from_bytes, to_bytes
from adapters.router.router_card_json import card_to_json
from adapters.router.router_model_card import model_card
from application.ports import TrainedRouter
from domain.errors import RouterFileError

WEIGHTS: Final = "model.safetensors"
CONFIG: Final = "config.json"
MODEL_TYPE: Final = "moe_lora_router"
CARD: Final = "README.md"
_CARD_HASH: Final = "model_card_sha256"


def write_folder(router: TrainedRouter, target: Path) -> None:
    """Write the folder: complete or not at all; a folder that holds an earlier router alone, or nothing, is replaced.

    Raises:
        TargetExistsError: something else is there.
        StorageError: the file system refused.
    """
    with staged_folder(target, ROUTER_FOLDER, replace=True) as folder:
        fill_folder(folder, router)
        folder.publish()


def fill_folder(folder: StagedFolder, router: TrainedRouter) -> None:
    """Write a router's files into a folder that is being made."""
    weights = to_bytes(router)
    sha256 = from_bytes(weights).sha256
    assert sha256 is not None
    text = model_card(router.card, sha256).encode()
    content = config(router, sha256) | {_CARD_HASH: hashlib.sha256(text).hexdigest()}
    folder.write(WEIGHTS, weights)
    folder.write(CONFIG, orjson.dumps(content, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE))
    folder.write(CARD, text)


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
        raise RouterFileError(f"its {CONFIG} is not JSON: {error}") from error
    if not isinstance(found, dict):
        raise RouterFileError(f"its {CONFIG} is not a JSON object")
    for key, value in config(router, router.sha256 or "").items():
        if found.get(key) != value:
            raise RouterFileError(
                f"its {CONFIG} and {WEIGHTS} differ in {key!r}: {_short(found.get(key))} and {_short(value)}",
                hint="the weights decide; export the folder again",
            )


def _short(value: Any) -> str:
    text = orjson.dumps(value).decode()
    return text if len(text) <= 80 else text[:77] + "…"


def router_entries(folder: Path) -> set[str]:
    """Return the names of the files of the router in a folder; none, when there is no router.

    A README that is not the one that ``config.json`` knows was written by somebody.
    """
    names: set[str] = set()
    with suppress(FileNotFoundError, IsADirectoryError, SpecialFileError, ValueError):
        found = orjson.loads(read_regular(folder / CONFIG))
        if isinstance(found, dict) and found.get("model_type") == MODEL_TYPE:
            names = {WEIGHTS, CONFIG}
            if found.get(_CARD_HASH) == hashlib.sha256(read_regular(folder / CARD)).hexdigest():
                names.add(CARD)
    return names


ROUTER_FOLDER: Final = FolderKind(
    "a router",
    lambda folder: other_entries(folder, frozenset(router_entries(folder))),
    "choose another name; one without a suffix is a folder",
)
