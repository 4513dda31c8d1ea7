"""Routers as safetensors files: tensors, plus one JSON document in the file's metadata.

The document holds the format's name, the card, the bank's texts and a sha256. The hash is taken over the whole
file with its own 64 characters replaced by zeros, so that no byte can change unseen. (One metadata entry, not
several: safetensors writes entries in random order, and the same router must give the same bytes.)

Reading runs no code: bytes that look like a pickle, a torch file or anything else than a safetensors router are
refused by content, whatever their name says.
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Any, Final

import numpy as np
import orjson
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load, save

from adapters.atomic_files import write_bytes
from adapters.prompt_bank import check_bank_tensors
from adapters.router_card_json import card_from_json, card_to_json
from adapters.router_heads import check_head_tensors
from application.ports import TrainedRouter
from domain.errors import MissingFileError, RouterFileError, StorageError, UsageError

FORMAT: Final = "moe-router/1"
METADATA_KEY: Final = "moe_router"
NO_HASH: Final = "0" * 64
MAX_HEADER_BYTES: Final = 64 * 1024 * 1024
_PICKLES: Final[tuple[tuple[bytes, str], ...]] = (
    (b"PK\x03\x04", "a zip archive, as torch.save writes"),
    (b"\x80", "a pickle"),
    (b"\x1f\x8b", "a gzip archive"),
    (b"\x93NUMPY", "a numpy file"),
)


class SafetensorsRouterStore:
    """A :class:`application.ports.RouterStore` of safetensors files."""

    def save(self, router: TrainedRouter, target: Path) -> Path:
        """Write the router as ``….safetensors``; see the port."""
        if target.suffix != ".safetensors":
            raise UsageError(f"{target.suffix or 'no suffix'} is no form of a router file", where=target)
        write_bytes(target, to_bytes(router))
        return target

    def load(self, source: Path) -> TrainedRouter:
        """Read a router back, every byte of it verified; see the port."""
        try:
            return from_bytes(_read(source))
        except RouterFileError as error:
            raise RouterFileError(error.what, where=source, hint=error.hint) from error


def to_bytes(router: TrainedRouter) -> bytes:
    """Return the router as the bytes of a safetensors file; raises RouterFileError when it is not sound."""
    tensors = {name: np.ascontiguousarray(tensor) for name, tensor in router.tensors.items()}
    _check(router.card.head, tensors, router)
    document = {
        "format": FORMAT,
        "sha256": NO_HASH,
        "card": card_to_json(router.card),
        "bank_texts": list(router.bank_texts),
    }
    blank = save(tensors, metadata={METADATA_KEY: orjson.dumps(document).decode()})
    return _with_hash(blank, NO_HASH, hashlib.sha256(blank).hexdigest())


def from_bytes(content: bytes) -> TrainedRouter:
    """Return the router in the bytes of a safetensors file; raises RouterFileError."""
    document = _document(content)
    claimed = document["sha256"]
    found = hashlib.sha256(_with_hash(content, claimed, NO_HASH)).hexdigest()
    if found != claimed:
        raise RouterFileError(
            f"damaged: its sha256 is {found[:16]}…, it says {claimed[:16]}…", hint="copy or train it again"
        )
    try:
        tensors: dict[str, NDArray[Any]] = load(content)
    except (SafetensorError, ValueError, KeyError) as error:
        raise RouterFileError(f"its tensors cannot be read: {error}") from error
    texts = document["bank_texts"]
    if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
        raise RouterFileError("its bank_texts are not a list of texts")
    router = TrainedRouter(card_from_json(document["card"]), tensors, tuple(texts), claimed)
    _check(router.card.head, tensors, router)
    return router


def _check(head: str, tensors: dict[str, NDArray[Any]], router: TrainedRouter) -> None:
    sizes = {"n_features": router.card.features.n_features, "n_labels": len(router.card.labels)}
    check_head_tensors(head, tensors, **sizes)
    check_bank_tensors(tensors, n_texts=len(router.bank_texts), **sizes)
    if extra := sorted(name for name in tensors if not name.startswith(("feature.", "head.", "bank."))):
        raise RouterFileError(f"unexpected tensor {extra[0]}")


def _with_hash(content: bytes, old: str, new: str) -> bytes:
    """Return the file with the hash in its header exchanged; raises RouterFileError unless it stands there once."""
    end = 8 + int.from_bytes(content[:8], "little")
    header = content[8:end]
    entry = rb"\"sha256\":\"%s\""  # the document is a JSON string inside JSON: its quotes are escaped
    before, after = entry % old.encode(), entry % new.encode()
    if header.count(before) != 1:
        raise RouterFileError("damaged: its sha256 does not stand in its header exactly once")
    return content[:8] + header.replace(before, after) + content[end:]


def _document(content: bytes) -> dict[str, Any]:
    """Return the JSON document in the header, its frame checked, before anything else is looked at."""
    for magic, what in _PICKLES:
        if content.startswith(magic):
            raise RouterFileError(
                f"this is {what}, which can run code when loaded; it was not loaded",
                hint="use the .safetensors file that was written beside it",
            )
    length = int.from_bytes(content[:8], "little")
    if len(content) < 8 or content[8:9] != b"{" or length > min(MAX_HEADER_BYTES, len(content) - 8):
        raise RouterFileError("not a router file: no whole safetensors header")
    try:
        header = orjson.loads(content[8 : 8 + length])
        document = orjson.loads(header["__metadata__"][METADATA_KEY])
        expected, found = {"format", "sha256", "card", "bank_texts"}, set(document)
    except (orjson.JSONDecodeError, KeyError, TypeError, AttributeError) as error:
        raise RouterFileError("not a router file: a safetensors file without a router's description") from error
    if not isinstance(document, dict) or document.get("format") != FORMAT:
        raise RouterFileError(f"not a router file of the format {FORMAT}")
    if found != expected or not isinstance(document["sha256"], str) or len(document["sha256"]) != 64:
        raise RouterFileError(f"its description has the entries {sorted(found)}, expected {sorted(expected)}")
    return document


def _read(source: Path) -> bytes:
    try:
        with source.open("rb") as file:
            return file.read(os.fstat(file.fileno()).st_size + 1)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise MissingFileError(
            "no such router file", where=source, hint="train one with `moe-router train`"
        ) from error
    except IsADirectoryError as error:
        raise MissingFileError("a folder, not a router file", where=source) from error
    except OSError as error:
        raise StorageError(f"cannot read: {error.strerror or error}", where=source) from error
