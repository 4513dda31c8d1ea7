"""Where things are in the app's containers, for whoever calls it; loads nothing of Modal."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Final

from entrypoints.settings import Places

THERE: Final = Places(
    Path("/output/router-head.safetensors"), Path("/output/tensorboard"), "Qwen/Qwen3-VL-8B-Instruct"
)
"""The places in a container; the base model is downloaded into the cache volume on first use."""

EVALUATION: Final = Path("/output/router-eval.json")
LORA_DIR: Final = Path("/checkpoints")
LORA_FOLDERS: Final[Mapping[str, str]] = {"calendar": "calendar-tasks"}
"""Folders of LoRA adapters that are not named for their adapter."""
