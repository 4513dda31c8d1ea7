"""Reading LoRA adapters' folders (peft's format) without running anything of theirs."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

import orjson
import torch
from attrs import field, frozen
from peft import LoraConfig
from peft.tuners.tuners_utils import check_target_module_exists
from safetensors import SafetensorError, safe_open
from transformers.pytorch_utils import Conv1D

from adapters.base_model.transformers_base import LoadedBase
from adapters.lora.lora_folder import CONFIG_FILE, FINGERPRINT_KEY, SYSTEM_FILE, WEIGHTS_FILE
from domain.errors import LoraAdapterError, MissingFileError
from domain.features import BaseModel
from domain.lora import LoraFacts, LoraLayer, ModuleShapes

_LORA_TENSOR = re.compile(r"base_model\.model\.(?P<module>.+)\.lora_(?P<half>[AB])\.weight")
_PICKLES = (b"\x80", b"PK\x03\x04", b"\x1f\x8b")  # a pickle, torch's zip around one, gzip around one
_KEEPS_BASE = (True, False, None, "gaussian", "orthogonal", "eva")
"""Ways to initialise that leave the base model's weights alone; the others (PiSSA, OLoRA, …) would change them."""


@frozen(eq=False, slots=False)
class SafetensorsLoraInspector:
    """A :class:`application.ports.lora.LoraInspector` for the base model that is loaded.

    Attributes:
        base: on construction the loaded model, without LoRA layers; afterwards its description.
    """

    _loaded: LoadedBase = field(alias="base")

    @property
    def base(self) -> BaseModel:
        """The base model that they are to fit."""
        return self._loaded.info

    @cached_property
    def modules(self) -> ModuleShapes:
        """The base model's layers that can carry LoRA matrices: path to (in, out)."""
        shapes = {}
        for path, module in self._loaded.model.named_modules():
            if isinstance(module, torch.nn.Linear):
                shapes[path] = (module.in_features, module.out_features)
            elif isinstance(module, Conv1D):  # GPT-2's transposed linear layer
                shapes[path] = (int(module.weight.shape[0]), int(module.weight.shape[1]))
        return shapes

    def inspect(self, folder: Path) -> LoraFacts:
        """Read one folder; see the port for the contract."""
        if not folder.is_dir():
            raise MissingFileError("no such folder", where=folder)
        config = _config(folder)
        weights = _weights_file(folder)
        try:
            with safe_open(weights, framework="pt") as file:
                metadata = file.metadata() or {}
                layers, strays = _layers({name: file.get_tensor(name) for name in list(file.keys())})
        except (SafetensorError, OSError, ValueError, TypeError, RuntimeError) as error:
            raise LoraAdapterError(f"{WEIGHTS_FILE} is damaged: {error}", where=folder) from error
        return LoraFacts(
            folder=str(folder),
            kind=str(config.get("peft_type", "")),
            base_name=str(config.get("base_model_name_or_path") or ""),
            base_fingerprint=metadata.get(FINGERPRINT_KEY),
            rank=_whole(config.get("r")),
            ranks_vary=bool(config.get("rank_pattern")),
            targets=_targets(config.get("target_modules")),
            layers=layers,
            strays=strays,
            unfilled=self._unfilled(folder, config, {layer.module for layer in layers}),
            size=weights.stat().st_size,
            has_system_prompt=_has_system_prompt(folder),
        )

    def _unfilled(self, folder: Path, config: Mapping[str, Any], filled: set[str]) -> tuple[str, ...]:
        if config.get("peft_type") != "LORA" or config.get("target_modules") in (None, "all-linear"):
            return ()
        try:
            parsed = LoraConfig.from_pretrained(str(folder))
            named = [path for path in self.modules if check_target_module_exists(parsed, path)]
        except (TypeError, ValueError, KeyError, re.error) as error:
            raise LoraAdapterError(f"{CONFIG_FILE} is damaged: {error}", where=folder) from error
        return tuple(path for path in named if path not in filled)


def _config(folder: Path) -> dict[str, Any]:
    try:
        config: Any = orjson.loads((folder / CONFIG_FILE).read_bytes())
    except FileNotFoundError as error:
        raise MissingFileError(f"{CONFIG_FILE} is missing", where=folder) from error
    except (OSError, orjson.JSONDecodeError) as error:
        raise LoraAdapterError(f"{CONFIG_FILE} is damaged: {error}", where=folder) from error
    if not isinstance(config, dict):
        raise LoraAdapterError(f"{CONFIG_FILE} is no object", where=folder)
    if config.get("init_lora_weights") not in _KEEPS_BASE:
        raise LoraAdapterError(
            f"its initialisation {config['init_lora_weights']!r} changes the base model that all share",
            where=folder,
            hint="save it as a plain LoRA (peft: path_initial_model_for_weight_conversion)",
        )
    for key in ("use_dora", "alora_invocation_tokens", "modules_to_save", "layer_replication"):
        if config.get(key):
            raise LoraAdapterError(f"it uses {key}, which cannot be mixed with others in one batch", where=folder)
    return config


def _weights_file(folder: Path) -> Path:
    weights = folder / WEIGHTS_FILE
    if not weights.is_file():
        others = sorted(path.name for path in folder.iterdir() if path.suffix in (".bin", ".pt", ".pth", ".pkl"))
        if others:
            raise LoraAdapterError(
                f"its weights are a pickle ({others[0]}), which could run code; only safetensors is loaded",
                where=folder,
                hint=f"convert it to {WEIGHTS_FILE}",
            )
        raise MissingFileError(f"{WEIGHTS_FILE} is missing", where=folder)
    with weights.open("rb") as file:
        start = file.read(16)
    if start.startswith(_PICKLES) and start[8:9] != b"{":  # a safetensors header may be of any length
        raise LoraAdapterError(f"{WEIGHTS_FILE} is a pickle, which could run code", where=folder)
    return weights


def _has_system_prompt(folder: Path) -> bool:
    try:
        (folder / SYSTEM_FILE).read_text("utf-8")
    except FileNotFoundError:
        return False
    except (OSError, UnicodeDecodeError) as error:
        raise LoraAdapterError(f"{SYSTEM_FILE} is no UTF-8 text: {error}", where=folder) from error
    return True


def _layers(tensors: Mapping[str, torch.Tensor]) -> tuple[tuple[LoraLayer, ...], tuple[str, ...]]:
    """Pair the A and B matrices by module; return the pairs and the names of all other tensors."""
    halves: dict[str, dict[str, torch.Tensor]] = {}
    names: dict[str, list[str]] = {}
    strays = []
    for name, tensor in tensors.items():
        match = _LORA_TENSOR.fullmatch(name)
        if match is None or tensor.ndim != 2:
            strays.append(name)
            continue
        halves.setdefault(match["module"], {})[match["half"]] = tensor
        names.setdefault(match["module"], []).append(name)
    strays += [name for module, half in halves.items() if len(half) < 2 for name in names[module]]
    layers = [
        LoraLayer(
            module=module,
            a_shape=tuple(half["A"].shape),
            b_shape=tuple(half["B"].shape),
            zero=not (half["A"].any() and half["B"].any()),
            finite=bool(half["A"].isfinite().all() and half["B"].isfinite().all()),
        )
        for module, half in halves.items()
        if len(half) == 2
    ]
    return tuple(layers), tuple(sorted(strays))


def _targets(value: Any) -> tuple[str, ...]:
    if isinstance(value, str):
        return (value,)
    return tuple(sorted(str(each) for each in value)) if isinstance(value, list) else ()


def _whole(value: Any) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) else 0
