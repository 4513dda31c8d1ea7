"""Images beside a prompt, for vision-language base models."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from adapters.transformers_base import LoadedBase
from domain.chats import Chat
from domain.errors import DataRejectedError, MissingFileError, UsageError


def vision_inputs(base: LoadedBase, chat: Chat, images: Sequence[Path]) -> dict[str, torch.Tensor]:
    """Return the model's inputs for one conversation whose newest user turn comes with images.

    Raises:
        UsageError: the base model sees no images.
        MissingFileError: no such image.
        DataRejectedError: a file is no image, or the base model's folder has no image processor.
    """
    if base.kind != "vision-language":
        raise UsageError(f"base model {base.info.name} sees no images", hint="leave --image out")
    pictures = [_open(path) for path in images]
    newest = max(index for index, message in enumerate(chat) if message.role == "user")
    messages: list[dict[str, Any]] = []
    for index, message in enumerate(chat):
        parts = [{"type": "image"} for _ in pictures] if index == newest else []
        messages.append({"role": message.role, "content": [*parts, {"type": "text", "text": message.content}]})
    processor = _processor(base)
    text = processor.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    inputs = processor(text=[text], images=pictures, return_tensors="pt")
    return {name: value.to(base.device) for name, value in inputs.items()}


def _open(path: Path) -> Any:
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(path) as image:
            return image.convert("RGB")
    except FileNotFoundError as error:
        raise MissingFileError("no such image", where=path) from error
    except (UnidentifiedImageError, OSError) as error:
        raise DataRejectedError(f"is no image that can be read: {error}", where=path) from error


def _processor(base: LoadedBase) -> Any:
    from transformers import AutoProcessor

    loader: Any = AutoProcessor
    try:
        return loader.from_pretrained(base.folder, trust_remote_code=False)
    except (OSError, ValueError, ImportError) as error:
        raise DataRejectedError(
            f"no image processor: {str(error).splitlines()[0][:200]}", where=f"base model {base.info.name}"
        ) from error
