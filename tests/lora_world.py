"""Random LoRA adapters on tiny base models, written in a moment."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, get_peft_model, get_peft_model_state_dict

from adapters.base_model.transformers_base import LoadedBase
from adapters.lora.lora_files import WEIGHTS_FILE
from adapters.lora.lora_folder import save_lora_folder

NAMES = ("calendar", "claim-window", "provider-select")
TARGETS = ["q_proj", "down_proj"]


def write_loras(
    base: LoadedBase,
    folder: Path,
    names: tuple[str, ...] = NAMES,
    *,
    systems: dict[str, str] | None = None,
    targets: list[str] | str = TARGETS,
) -> dict[str, Path]:
    """Write strong random LoRA adapters for a base model; return their folders by name."""
    for seed, name in enumerate(names):
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            config = LoraConfig(r=4, lora_alpha=8, target_modules=targets, init_lora_weights=False)
            model = get_peft_model(base.model, config)
            tensors = {key: 5 * value for key, value in get_peft_model_state_dict(model).items()}
        model.unload()
        if hasattr(base.model, "peft_config"):
            del base.model.peft_config
        plain = {key: sorted(value) if isinstance(value, set) else value for key, value in config.to_dict().items()}
        save_lora_folder(
            folder / name,
            config={**plain, "init_lora_weights": True, "base_model_name_or_path": base.info.name},
            tensors=tensors,
            fingerprint=base.info.fingerprint,
            system_prompt=(systems or {}).get(name),
        )
    base.model.requires_grad_(False)
    return {name: folder / name for name in names}


def edit_weights(folder: Path, change: Callable[[dict[str, torch.Tensor]], dict[str, torch.Tensor]]) -> None:
    """Rewrite a LoRA adapter's tensors, without the fingerprint, as another tool would."""
    from safetensors.torch import load_file, save_file

    save_file(change(load_file(folder / WEIGHTS_FILE)), folder / WEIGHTS_FILE)


def edit_config(folder: Path, **changes: Any) -> None:
    """Change values in a LoRA adapter's configuration."""
    path = folder / "adapter_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))
