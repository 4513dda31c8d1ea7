"""Putting LoRA adapters into a loaded base model, and making sure that every weight arrived.

peft only warns when a file's tensors do not fit the model, and then answers with the bare base model.
"""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

from peft import LoraConfig, PeftModel, get_peft_model, set_peft_model_state_dict
from safetensors.torch import load_file

from adapters.lora.lora_folder import WEIGHTS_FILE
from domain.errors import LoraAdapterError

BASE = "__base__"
"""peft's name, in a mixed batch, for the model without any LoRA adapter."""


def inner_name(name: str | None) -> str:
    """Return the name inside peft: prefixed, as some names ("keys", "__base__") mean something there."""
    return BASE if name is None else f"lora_{name}"


def inject(model: Any, name: str, folder: Path) -> Any:
    """Put one LoRA adapter into a model; return peft's model around it, which is given to the next call.

    Args:
        model: the base model, or what an earlier call returned.
        name: the LoRA adapter's.
        folder: where it lies.

    Raises:
        LoraAdapterError: a tensor found no place, or a layer got no tensor. `remove` takes away what was put in.
    """
    try:
        model, result = _put_in(model, name, folder)
    except (RuntimeError, ValueError, TypeError, KeyError) as error:
        remove(model, name)
        raise LoraAdapterError(f"LoRA adapter {name} does not fit the base model: {error}", where=folder) from error
    lost = list(result.unexpected_keys)
    empty = [key for key in result.missing_keys if f".{inner_name(name)}." in key]
    if lost or empty:
        remove(model, name)
        what = f"{len(lost)} tensors without a place" if lost else f"{len(empty)} layers without a tensor"
        raise LoraAdapterError(f"LoRA adapter {name} has {what}, such as {(lost + empty)[0]}", where=folder)
    model.eval().requires_grad_(False)
    return model


def remove(model: Any, name: str) -> None:
    """Take one LoRA adapter out of peft's model again; nothing happens when it is not in it."""
    if inner_name(name) in getattr(model, "peft_config", {}):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # which LoRA adapter is active is set before every pass
            model.delete_adapter(inner_name(name))


def _put_in(model: Any, name: str, folder: Path) -> tuple[Any, Any]:
    """Return peft's model with one more LoRA adapter, and which keys found no counterpart."""
    config = _config(name, folder)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what peft only warns of, the caller checks
        if isinstance(model, PeftModel):
            model.add_adapter(inner_name(name), config)
        else:
            model = get_peft_model(model, config, adapter_name=inner_name(name))
        tensors = load_file(folder / WEIGHTS_FILE)
        return model, set_peft_model_state_dict(model, tensors, adapter_name=inner_name(name))


def _config(name: str, folder: Path) -> Any:
    try:
        config = LoraConfig.from_pretrained(str(folder))
    except (TypeError, ValueError, KeyError) as error:
        raise LoraAdapterError(f"LoRA adapter {name}: its configuration is damaged: {error}", where=folder) from error
    config.inference_mode = True
    config.init_lora_weights = True  # never anything that reads or changes the base model's weights
    return config
