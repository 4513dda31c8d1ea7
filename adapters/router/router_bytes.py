"""A router as the bytes of a safetensors file: tensors, plus one JSON document in the file's metadata.

The document holds the format's name, the card, the bank's texts and a sha256. The hash is taken over the whole
file with its own 64 characters replaced by zeros, so that no byte can change unseen. (One metadata entry, not
several: safetensors writes entries in random order, and the same router must give the same bytes.)

Reading runs no code: bytes that look like a pickle, a torch file or anything else than a safetensors router are
refused by content, whatever their name says.
"""

from __future__ import annotations

import hashlib
from typing import Any, Final

import numpy as np
import orjson
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load, save

from adapters.router.prompt_bank import check_bank_tensors
from adapters.router.router_card_json import card_from_json, card_to_json
from adapters.router.router_heads import check_head_tensors
from application.ports import TrainedRouter
from domain.errors import RouterFileError

FORMAT_FAMILY: Final = "moe-router/"
FORMAT: Final = FORMAT_FAMILY + "3"
METADATA_KEY: Final = "moe_router"
NO_HASH: Final = "0" * 64
MAX_ROUTER_BYTES: Final = 4 * 1024**3
MAX_HEADER_BYTES: Final = 64 * 1024 * 1024
_UNSAFE: Final[tuple[tuple[bytes, str], ...]] = (
    (b"PK\x03\x04", "a zip archive, as torch.save writes"),
    (b"\x80", "a pickle"),
    (b"\x1f\x8b", "a gzip archive, as joblib writes"),
)


def to_bytes(router: TrainedRouter) -> bytes:
    """Return the router as the bytes of a safetensors file; raises RouterFileError when it is not sound."""
    tensors = {name: np.ascontiguousarray(tensor) for name, tensor in router.tensors.items()}
    _check(router.card.head, tensors, router)
    card = card_to_json(router.card)
    document = {"format": FORMAT, "sha256": NO_HASH, "card": card, "bank_texts": list(router.bank_texts)}
    try:
        text = orjson.dumps(document)
    except TypeError as error:  # a lone surrogate in a text, a number beyond 64 bits
        raise RouterFileError(f"its description cannot be kept: {error}") from error
    if card_from_json(orjson.loads(text)["card"]) != router.card:  # NaN, or a limit that no number can stand for
        raise RouterFileError(f"its description cannot be kept: {card}")
    blank = save(tensors, metadata={METADATA_KEY: text.decode()})
    return _with_hash(blank, NO_HASH, hashlib.sha256(blank).hexdigest())


def from_bytes(content: bytes) -> TrainedRouter:
    """Return the router in the bytes of a safetensors file; raises RouterFileError."""
    document = read_document(content[: header_end(content[:9], len(content))])
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


def header_end(start: bytes, size: int) -> int:
    """Return where a file's header ends.

    Args:
        start: the file's first 9 bytes.
        size: the file's size in bytes.

    Raises:
        RouterFileError: this is not a whole safetensors file, said in particular of forms that can run code.
    """
    length = int.from_bytes(start[:8], "little")
    if len(start) == 9 and start[8:] == b"{" and length <= min(MAX_HEADER_BYTES, size - 8):
        return 8 + length
    for magic, what in _UNSAFE:
        if start.startswith(magic):
            raise RouterFileError(
                f"this is {what}, which can run code when loaded; it was not loaded",
                hint="use the .safetensors file of this router",
            )
    raise RouterFileError("not a router file: no whole safetensors header")


def require_whole(start: bytes, size: int) -> None:
    """Raise RouterFileError unless the tensors of a file's header fill the file, and no more than a router can need.

    Args:
        start: everything up to the header's end.
        size: the file's size in bytes.
    """
    try:
        header = orjson.loads(start[8:])
        ends = [entry["data_offsets"][1] for name, entry in header.items() if name != "__metadata__"]
        end = len(start) + max(ends)
    except (orjson.JSONDecodeError, LookupError, TypeError, AttributeError, ValueError) as error:
        raise RouterFileError("not a router file: its header describes no tensors") from error
    if end != size:
        raise RouterFileError(
            f"damaged: {size} bytes long, its header describes {end}", hint="copy or train it again"
        )
    if size > MAX_ROUTER_BYTES:
        raise RouterFileError(f"larger than {MAX_ROUTER_BYTES >> 30} GiB, which no router needs; it was not loaded")


def read_document(start: bytes) -> dict[str, Any]:
    """Return the router's description out of a file's header, `start` being everything up to its end."""
    try:
        header = orjson.loads(start[8:])
        document = orjson.loads(header["__metadata__"][METADATA_KEY])
    except (orjson.JSONDecodeError, KeyError, TypeError) as error:
        raise RouterFileError("not a router file: its header holds no router's description") from error
    if not isinstance(document, dict):
        raise RouterFileError("not a router file: its description is not a JSON object")
    if (form := str(document.get("format"))) != FORMAT:
        if not form.startswith(FORMAT_FAMILY):
            raise RouterFileError(f"not a router file of the format {FORMAT}")
        raise RouterFileError(
            f"a router file of the format {form}, this version reads {FORMAT}",
            hint="train it again with this version, or use the version that trained it",
        )
    expected, found = {"format", "sha256", "card", "bank_texts"}, set(document)
    if found != expected or not isinstance(document["sha256"], str) or len(document["sha256"]) != 64:
        raise RouterFileError(f"its description has the entries {sorted(found)}, expected {sorted(expected)}")
    return document
