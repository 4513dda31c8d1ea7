"""A LoRA adapter as a folder in peft's format: ``adapter_config.json`` and ``adapter_model.safetensors``.

Beside them may lie ``system_prompt.txt``: the system turn that the LoRA adapter was trained with, put before every
prompt that brings none of its own.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import orjson
import torch
from safetensors.torch import save

from adapters.files.staged_folder import FolderKind, other_entries, staged_folder
from adapters.lora.lora_files import CONFIG_FILE, FINGERPRINT_KEY, SYSTEM_FILE, WEIGHTS_FILE, is_lora_folder


def save_lora_folder(
    target: Path,
    *,
    config: Mapping[str, Any],
    tensors: Mapping[str, torch.Tensor],
    fingerprint: str,
    system_prompt: str | None = None,
    replace: bool = False,
) -> None:
    """Write a LoRA adapter's folder: it appears complete or not at all.

    Args:
        target: the folder to make.
        config: peft's configuration, plain values.
        tensors: the weights, by peft's names.
        fingerprint: the base model's, see :class:`domain.features.BaseModel`.
        system_prompt: the system turn of its training data, if it was trained with one.
        replace: whether a LoRA adapter that is there may be replaced.

    Raises:
        TargetExistsError: there is something already (and `replace` is off, or it is more than a LoRA adapter).
        StorageError: the file system refused.
    """
    files = {
        CONFIG_FILE: orjson.dumps(config, option=orjson.OPT_INDENT_2 | orjson.OPT_SORT_KEYS),
        WEIGHTS_FILE: _weights(tensors, {"format": "pt", FINGERPRINT_KEY: fingerprint}),
    }
    if system_prompt is not None:
        files[SYSTEM_FILE] = system_prompt.encode()
    with staged_folder(target, _KIND, replace=replace) as folder:
        for name, content in files.items():
            folder.write(name, content)
        folder.publish()


_FILES = frozenset({CONFIG_FILE, WEIGHTS_FILE, SYSTEM_FILE})
_KIND = FolderKind(
    "a LoRA adapter's folder",
    lambda folder: other_entries(folder, _FILES if is_lora_folder(folder) else frozenset()),
)


def _weights(tensors: Mapping[str, torch.Tensor], metadata: dict[str, str]) -> bytes:
    """Serialise as safetensors with a sorted header: the library writes its metadata in random order."""
    content = save({name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}, metadata=metadata)
    start = 8 + int.from_bytes(content[:8], "little")
    header = orjson.dumps(orjson.loads(content[8:start]), option=orjson.OPT_SORT_KEYS)
    header += b" " * (-len(header) % 8)
    return len(header).to_bytes(8, "little") + header + content[start:]
