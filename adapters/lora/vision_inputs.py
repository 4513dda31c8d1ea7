"""Images beside a prompt, for base models of the Qwen-VL family (Qwen2-VL, Qwen2.5-VL, Qwen3-VL).

Their images become a run of placeholder tokens, one for each square of merged patches. That is done here with
the image processor that needs Pillow only: transformers' own processor for them also loads video code, which
needs torchvision. What is not covered: videos, and other families of vision-language models (refused).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from attrs import evolve
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

from adapters.base_model.transformers_base import LoadedBase
from adapters.lora.chat_format import apply_template, read_prompt
from domain.chats import Chat
from domain.errors import DataRejectedError, MissingFileError, UsageError
from domain.turns import strip_media

IMAGE = "<image>"
"""Marks in a user's words where an image goes, as in LLaMA-Factory's data."""

_PICTURE = {"type": "image"}


def vision_inputs(base: LoadedBase, chat: Chat, images: Sequence[Path]) -> dict[str, torch.Tensor]:
    """Return the model's inputs (a batch of one) for a conversation whose newest user turn comes with images.

    Raises:
        UsageError: the base model sees no images.
        MissingFileError: no such image.
        DataRejectedError: a file is not an image, or the base model's folder has no image processor or template.
    """
    where = f"base model {base.info.name}"
    merge = getattr(getattr(base.model.config, "vision_config", None), "spatial_merge_size", None)
    token = getattr(base.model.config, "image_token_id", None)
    if base.kind != "vision-language":
        raise UsageError(f"{where} sees no images", hint="leave --image out")
    if merge is None or token is None:
        raise UsageError(f"{where} is not a Qwen-VL model; images are supported for those only")
    pictures = [_open(path) for path in images]
    processed = _processor(base, where)(images=pictures, return_tensors="pt")
    counts = (processed["image_grid_thw"].prod(dim=1) // merge**2).tolist()
    _, read = read_prompt(base.tokenizer, chat, lambda _, safe: _text(base, safe, len(pictures), where))
    ids = _expanded(read, token, counts, where)
    inputs = {
        "input_ids": torch.tensor([ids]),  # (1, T)
        "attention_mask": torch.ones(1, len(ids), dtype=torch.long),
        "mm_token_type_ids": (torch.tensor([ids]) == token).int(),  # 1 where an image is, for its positions
        "pixel_values": processed["pixel_values"].to(base.model.dtype),  # (patches, patch values)
        "image_grid_thw": processed["image_grid_thw"],  # (images, 3)
    }
    return {name: value.to(base.device) for name, value in inputs.items()}


def without_places(base: LoadedBase, chat: Chat) -> Chat:
    """Return a chat that came without images for a base model that sees none: ``<image>`` in it says nothing.

    Raises DataRejectedError where the base model sees images, and one was meant to be here.
    """
    if not any(message.role == "user" and IMAGE in message.content for message in chat):
        return chat
    if base.kind == "vision-language":
        raise DataRejectedError(f"the prompt has a place for an image ({IMAGE}), and no image came")
    return tuple(
        evolve(message, content=strip_media(message.content)) if message.role == "user" else message
        for message in chat
    )


def _text(base: LoadedBase, chat: Chat, n_images: int, where: str) -> str:
    """Return the conversation as text, with the template's place for each image where the user's words have it.

    ``<image>`` in a user's turn marks such a place; without any, the images come first in the newest one.
    """
    marked = sum(message.content.count(IMAGE) for message in chat if message.role == "user")
    if marked not in (0, n_images):
        raise DataRejectedError(f"the prompt has {marked} places for images ({IMAGE}), and {n_images} images came")
    newest = max(index for index, message in enumerate(chat) if message.role == "user")
    messages: list[dict[str, Any]] = []
    for index, message in enumerate(chat):
        first = [_PICTURE] * n_images if index == newest and not marked else []
        parts = _parts(message.content) if message.role == "user" else [_words(message.content)]
        messages.append({"role": message.role, "content": [*first, *parts]})
    try:
        return apply_template(base.tokenizer, chat, messages)
    except DataRejectedError as error:
        raise DataRejectedError(f"its chat template takes no images: {error.what}", where=where) from error


def _parts(content: str) -> list[dict[str, str]]:
    """Split the words at the places of images."""
    parts: list[dict[str, str]] = []
    for number, words in enumerate(content.split(IMAGE)):
        parts += [_PICTURE] if number else []
        parts += [_words(words)] if words or IMAGE not in content else []
    return parts


def _words(text: str) -> dict[str, str]:
    return {"type": "text", "text": text}


def _expanded(ids: list[int], token: int, counts: list[int], where: str) -> list[int]:
    """Repeat each image's placeholder as often as the image has merged patches."""
    if ids.count(token) != len(counts):
        raise DataRejectedError(
            f"its chat template gives {ids.count(token)} places for {len(counts)} images", where=where
        )
    left = iter(counts)
    return [each for found in ids for each in ([found] * next(left) if found == token else [found])]


def _open(path: Path) -> Any:
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(path) as image:
            return image.convert("RGB")
    except FileNotFoundError as error:
        raise MissingFileError("no such image", where=path) from error
    except (UnidentifiedImageError, OSError) as error:
        raise DataRejectedError(f"cannot be read as an image: {error}", where=path) from error


def _processor(base: LoadedBase, where: str) -> Any:
    try:
        return Qwen2VLImageProcessorPil.from_pretrained(base.folder)
    except (OSError, ValueError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise DataRejectedError(f"has no image processor: {reason[:200]}", where=where) from error
