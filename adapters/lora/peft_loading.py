"""Putting LoRA adapters into a loaded base model, and making sure that every weight arrived and none was changed.

peft only warns when a file's tensors do not fit the model, and then answers with the bare base model. It is given
module paths that the weights themselves name, never a configuration's patterns.
"""

from __future__ import annotations

import re
import warnings
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from attrs import frozen
from peft import LoraConfig, PeftModel, get_peft_model, set_peft_model_state_dict
from peft.tuners.lora import LoraLayer
from peft.utils.other import AuxiliaryTrainingWrapper
from safetensors import SafetensorError
from safetensors.torch import load_file

from adapters.lora.lora_config import LoraSettings, read_settings
from adapters.lora.lora_inspection import base_module, is_lora_tensor, weights_file
from domain.errors import LoraAdapterError, OutOfMemoryError

BASE = "__base__"
"""peft's name, in a mixed batch, for the model without any LoRA adapter."""

_PAIR = re.compile(r"base_model\.model\.(?P<module>.+)\.lora_(?:A\.weight|embedding_A)")
_INTEGERS = {1: torch.int8, 2: torch.int16, 4: torch.int32, 8: torch.int64}


def inner_name(name: str | None) -> str:
    """Return the name inside peft: some names ("A", "keys", "__base__") mean something there."""
    return BASE if name is None else f"x{name.encode().hex()}"


def inject(model: Any, name: str, folder: Path) -> Any:
    """Put one LoRA adapter into a model; return peft's model around it, which is given to the next call.

    Args:
        model: the base model, or what an earlier call returned.
        name: the LoRA adapter's.
        folder: where its files lie.

    Raises:
        LoraAdapterError: a tensor found no place, or a layer got no tensor. What was put in is taken out again.
    """
    try:
        settings, tensors = read_settings(folder), load_file(weights_file(folder))
        kept = {key: value for key, value in tensors.items() if is_lora_tensor(key) or _replaces(key, settings)}
        model, result = _put_in(model, name, _config(settings, kept), kept)
    except torch.OutOfMemoryError as error:
        remove(model, name)
        raise OutOfMemoryError(
            f"the GPU's memory is too small for LoRA adapter {name} as well", where=folder, hint="take a larger GPU"
        ) from error
    except (RuntimeError, ValueError, TypeError, KeyError, AttributeError, SafetensorError) as error:
        remove(model, name)
        reason = " ".join(str(error).split())[:300]
        raise LoraAdapterError(f"LoRA adapter {name} does not fit the base model: {reason}", where=folder) from error
    lost = list(result.unexpected_keys)
    empty = [key for key in result.missing_keys if f".{inner_name(name)}." in key or key.endswith(inner_name(name))]
    if lost or empty:
        remove(model, name)
        what = f"{len(lost)} tensors without a place" if lost else f"{len(empty)} layers without a tensor"
        raise LoraAdapterError(f"LoRA adapter {name} has {what}, such as {(lost + empty)[0]}", where=folder)
    model.eval().requires_grad_(False)
    return model


def remove(model: Any, name: str) -> None:
    """Take one LoRA adapter out of peft's model again; nothing happens when it is not in it."""
    if isinstance(model, PeftModel) and inner_name(name) in model.peft_config:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # which LoRA adapter is active is set before every pass
            model.delete_adapter(inner_name(name))


def runs_alone(model: Any, name: str) -> str | None:
    """Return why rows of a LoRA adapter cannot share a batch with others' rows; None when they can."""
    inner = inner_name(name)
    for path, module in model.named_modules():
        if isinstance(module, AuxiliaryTrainingWrapper) and inner in module._adapters:
            return f"it replaces {path.rsplit('.', 1)[-1]}"
        if isinstance(module, LoraLayer):
            if module.use_dora.get(inner):
                return "it uses DoRA"
            if inner in module.lora_embedding_A:
                return "it changes the embeddings"
            if inner in module.lora_A and not isinstance(module.lora_A[inner], torch.nn.Linear):
                return f"its layers are of the kind {type(module).__name__}"
    return None


@frozen(eq=False)
class BaseWatch:
    """Notices when weights of a base model are changed or replaced.

    Attributes:
        weights: the weights, by name, each with a sum over its bits.
    """

    weights: Mapping[str, tuple[torch.Tensor, int]]

    @classmethod
    def of(cls, model: torch.nn.Module) -> BaseWatch:
        """Look at a model that carries no LoRA layers yet."""
        return cls({name: (weight, _bits(weight)) for name, weight in model.named_parameters()})

    def changed(self, model: torch.nn.Module) -> str | None:
        """Return the name of a weight that is not in the model any more as it was."""
        present = {id(weight) for weight in model.parameters()}
        for name, (weight, bits) in self.weights.items():
            if id(weight) not in present or _bits(weight) != bits:
                return name
        return None


def _bits(weight: torch.Tensor) -> int:
    flat = weight.detach().contiguous().view(-1)
    kind = _INTEGERS.get(flat.element_size())
    return int(flat.view(kind).sum(dtype=torch.int64)) if kind else 0


def _replaces(key: str, settings: LoraSettings) -> bool:
    module = base_module(key)
    return module is not None and bool(settings.saved) and module.endswith(settings.saved)


def _config(settings: LoraSettings, tensors: Mapping[str, torch.Tensor]) -> LoraConfig:
    ranks = {match["module"]: len(value) for key, value in tensors.items() if (match := _PAIR.fullmatch(key))}
    if not ranks:
        raise ValueError("its weights hold no pair of LoRA matrices")
    usual = Counter(ranks.values()).most_common(1)[0][0]
    alphas = {module: settings.alpha_of(module) for module in ranks}
    saved = sorted({module for key in tensors if (module := base_module(key)) is not None})
    return LoraConfig(
        r=usual,
        lora_alpha=settings.alpha,
        target_modules=sorted(ranks),
        rank_pattern={re.escape(module): rank for module, rank in ranks.items() if rank != usual},
        alpha_pattern={re.escape(module): alpha for module, alpha in alphas.items() if alpha != settings.alpha},
        modules_to_save=saved or None,
        use_rslora=settings.rslora,
        use_dora=settings.dora,
        lora_bias=settings.lora_bias,
        fan_in_fan_out=settings.fan_in_fan_out,
        task_type="CAUSAL_LM",
        inference_mode=True,
    )


def _put_in(model: Any, name: str, config: LoraConfig, tensors: dict[str, torch.Tensor]) -> tuple[Any, Any]:
    """Return peft's model with one more LoRA adapter, and which keys found no counterpart.

    Its weights are of the base model's dtype: in float32 over bfloat16, as peft would have them, every layer would
    copy what it reads, and with long prompts those copies are what fills a GPU.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what peft only warns of, the caller checks
        if isinstance(model, PeftModel):
            model.add_adapter(inner_name(name), config, autocast_adapter_dtype=False)
        else:
            model = get_peft_model(model, config, adapter_name=inner_name(name), autocast_adapter_dtype=False)
        return model, set_peft_model_state_dict(model, tensors, adapter_name=inner_name(name))
