"""Telling base models apart by what decides their hidden states, without reading all of their weights."""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson
from attrs import frozen
from safetensors import SafetensorError, safe_open

from domain.errors import DataRejectedError

WEIGHTS = "model.safetensors"
WEIGHTS_INDEX = "model.safetensors.index.json"

_OTHER_FORMATS = {".bin", ".pt", ".pth", ".pkl", ".h5", ".msgpack", ".gguf", ".onnx"}
_SCHEME = b"moe-lora-router/base-fingerprint/1"
_BLOCK = 4096  # bytes of one sample
_SAMPLES = 16  # samples of one tensor; a tensor no larger than all of them is hashed whole

# What a text tower computes depends on these, besides its weights. A list of our own, because the full
# configuration differs between versions of transformers that compute the same.
_ARCHITECTURE = (
    "model_type",
    "hidden_size",
    "num_hidden_layers",
    "num_attention_heads",
    "num_key_value_heads",
    "head_dim",
    "intermediate_size",
    "hidden_act",
    "hidden_activation",
    "rms_norm_eps",
    "layer_norm_eps",
    "rope_parameters",
    "sliding_window",
    "layer_types",
    "position_embedding_type",
    "vocab_size",
)
# Tokens decide features as much as weights do: scripts, digits, white space, punctuation, a word unseen.
PROBES = (
    "",
    "The quick brown fox jumps over the lazy dog.",
    "  two spaces,\ttab\nand newline ",
    "1234567890 3.14 -7e10 0x1F",
    "ÀÉÎõü straße ﬁ ＡＢＣ",
    "予定を確認して Привет мир مرحبا",
    '🙂👩‍👩‍👧 don\'t; {"json": [true, null]} </s> <|im_start|>',
    "zxqvjkwy ANTIDISESTABLISHMENTARIANISM",
)


@frozen
class StoredTensor:
    """Where a tensor lies in a safetensors file: `start` and `size` in bytes of the file at `path`."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    path: Path
    start: int
    size: int


def base_fingerprint(folder: Path, text_config: Any, tokenizer: Any) -> str:
    """Return 64 hex digits that are equal for base models whose features may be compared.

    SHA-256 over: the text tower's architecture settings; name, dtype and shape of every tensor in the safetensors
    files with 16 evenly spaced blocks of 4 KiB of each (smaller tensors whole), so that 16 GB cost as little as
    100 MB; and the token ids of a few probe texts. Computed from the files, so loading fewer layers, another
    compute dtype, another device or another way of sharding the files change nothing. A change that touches
    only unsampled bytes of a large tensor goes unnoticed: this tells models apart, it does not detect damage.

    Args:
        folder: model folder in Hugging Face format.
        text_config: transformers configuration of the text tower, as it is on disk (not cut to fewer layers).
        tokenizer: the model's transformers tokenizer.

    Raises:
        DataRejectedError: a weights file is damaged, or is not a safetensors file.
    """
    digest = hashlib.sha256(_SCHEME)
    architecture = {key: _plain(getattr(text_config, key, None)) for key in _ARCHITECTURE}
    digest.update(orjson.dumps(architecture, option=orjson.OPT_SORT_KEYS))
    digest.update(orjson.dumps([tokenizer(text)["input_ids"] for text in PROBES]))
    tensors = [tensor for path in weight_files(folder) for tensor in stored_tensors(path)]
    for tensor in sorted(tensors, key=lambda one: one.name):
        digest.update(orjson.dumps([tensor.name, tensor.dtype, tensor.shape]))
        for block in _sampled(tensor):
            digest.update(block)
    return digest.hexdigest()


def weight_files(folder: Path) -> list[Path]:
    """Return the safetensors files that hold the folder's model.

    Raises:
        DataRejectedError: there are none, or some that the index names are missing.
    """
    if (folder / WEIGHTS).is_file():
        return [folder / WEIGHTS]
    index = folder / WEIGHTS_INDEX
    if not index.is_file():
        others = sorted(path.name for path in folder.iterdir() if path.suffix in _OTHER_FORMATS)
        found = f"only {', '.join(others[:3])}" if others else "no weights at all"
        raise DataRejectedError(
            f"no safetensors weights ({found})",
            where=folder,
            hint="other formats can run code when they are loaded or are not supported; save it as safetensors first",
        )
    try:
        names = sorted(set(orjson.loads(index.read_bytes())["weight_map"].values()))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataRejectedError("the index of the weights is damaged", where=index) from error
    missing = [name for name in names if not (folder / name).is_file()]
    if missing:
        raise DataRejectedError(f"{len(missing)} of {len(names)} weight files missing: {missing[0]}", where=folder)
    return [folder / name for name in names]


def tensor_names(folder: Path) -> list[str]:
    """Return the names of all tensors of the folder's model; raises DataRejectedError as `weight_files` does."""
    return [tensor.name for path in weight_files(folder) for tensor in stored_tensors(path)]


def stored_tensors(path: Path) -> Iterator[StoredTensor]:
    """Yield the tensors of a safetensors file; raises DataRejectedError for any other file."""
    try:
        with safe_open(path, framework="numpy"):  # validates the header and the file's length
            pass
    except (SafetensorError, OSError) as error:
        raise DataRejectedError(f"not a readable safetensors file: {error}", where=path) from error
    with path.open("rb") as file:
        (length,) = struct.unpack("<Q", file.read(8))
        header = orjson.loads(file.read(length))
    for name, entry in header.items():
        if name != "__metadata__":
            start, end = entry["data_offsets"]
            yield StoredTensor(name, entry["dtype"], tuple(entry["shape"]), path, 8 + length + start, end - start)


def _sampled(tensor: StoredTensor) -> Iterator[bytes]:
    with tensor.path.open("rb", buffering=0) as file:
        if tensor.size <= _BLOCK * _SAMPLES:
            file.seek(tensor.start)
            yield file.read(tensor.size)
            return
        for index in range(_SAMPLES):
            file.seek(tensor.start + (tensor.size - _BLOCK) * index // (_SAMPLES - 1))
            yield file.read(_BLOCK)


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): _plain(entry) for key, entry in value.items() if entry is not None}
    if isinstance(value, (list, tuple)):
        return [_plain(entry) for entry in value]
    return value if value is None or isinstance(value, (str, int, float, bool)) else str(value)
