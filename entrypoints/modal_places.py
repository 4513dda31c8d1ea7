"""Where things are in the app's containers, for whoever calls it; loads nothing of Modal."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Final

BASE_MODEL: Final = "Qwen/Qwen3-VL-8B-Instruct"
"""Base model on Modal unless another is asked for; downloaded into the cache volume on first use."""

ROUTER: Final = Path("/output/router-head.safetensors")
EVALUATION: Final = Path("/output/router-eval.json")
LOG_DIR: Final = Path("/output/tensorboard")
LORA_DIR: Final = Path("/checkpoints")
LORA_FOLDERS: Final[Mapping[str, str]] = {"calendar": "calendar-tasks"}
"""Folders of LoRA adapters that are not named for their adapter."""


def remote_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """Return the caller's environment with the containers' defaults where it says nothing."""
    set_here = {name: value for name, value in environment.items() if value}
    return {"BASE_MODEL_ID": BASE_MODEL, "ROUTER_OUT": str(ROUTER), "LOG_DIR": str(LOG_DIR), **set_here}


def remote_base_model(base_model: str | None, environment: Mapping[str, str]) -> str | None:
    """Return the base model that the caller names for a trained router; None for the router's own."""
    return base_model or environment.get("BASE_MODEL_ID") or None
