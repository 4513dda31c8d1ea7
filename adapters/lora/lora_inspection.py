"""Reading LoRA adapters' folders (peft's format) without running anything of theirs."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from attrs import field, frozen
from safetensors import SafetensorError, safe_open
from transformers.pytorch_utils import Conv1D

from adapters.base_model.transformers_base import LoadedBase
from adapters.lora.lora_config import LoraSettings, read_settings
from adapters.lora.lora_files import FINGERPRINT_KEY, SYSTEM_FILE, WEIGHTS_FILE, newest_checkpoint
from adapters.lora.safe_files import checked_file, read_text
from domain.errors import LoraAdapterError, MissingFileError
from domain.features import BaseModel
from domain.lora import LoraFacts, LoraLayer, ModuleShapes

_PART = re.compile(
    r"base_model\.model\.(?P<module>.+)\."
    r"lora_(?P<part>A\.weight|B\.weight|embedding_A|embedding_B|B\.bias|magnitude_vector(?:\.weight)?)"
)
_HALVES = {"A.weight": "A", "B.weight": "B", "embedding_A": "A", "embedding_B": "B"}
_BASE_TENSOR = re.compile(
    r"base_model\.model\.(?P<module>.+?)(?:\.base_layer|\.modules_to_save)?\.(?P<kind>weight|bias)"
)
_PICKLES = (b"\x80", b"PK\x03\x04", b"\x1f\x8b")  # a pickle, torch's zip around one, gzip around one
_SLACK = 1 << 26  # bytes that a file may have beside four bytes for each of the base model's weights


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
        return dict(_shapes(self._loaded.model))

    def inspect(self, folder: Path) -> LoraFacts:
        """Read one folder; see the port for the contract."""
        if not folder.is_dir():
            raise MissingFileError("no such folder", where=folder)
        place = newest_checkpoint(folder)
        settings = read_settings(place)
        weights = weights_file(place, self._limit)
        try:
            with safe_open(weights, framework="pt") as file:
                metadata = file.metadata() or {}
                layers, strays = self._layers(file, settings)
        except (SafetensorError, OSError, ValueError, TypeError, RuntimeError) as error:
            raise LoraAdapterError(f"{WEIGHTS_FILE} is damaged: {error}", where=folder) from error
        filled = {layer.module for layer in layers}
        named = self._named(settings)
        chosen = () if place == folder else (f"its newest checkpoint is used: {place.name}",)
        return LoraFacts(
            folder=str(place),
            kind=settings.kind,
            base_name=settings.base_name,
            base_fingerprint=metadata.get(FINGERPRINT_KEY),
            rank=settings.rank,
            ranks_vary=bool(settings.rank_pattern),
            targets=(settings.targets,) if isinstance(settings.targets, str) else settings.targets,
            layers=layers,
            strays=strays,
            unfilled=tuple(path for path in named if path not in filled),
            unnamed=tuple(sorted(filled & self.modules.keys() - set(named))) if settings.targets else (),
            size=weights.stat().st_size,
            has_system_prompt=read_text(place, SYSTEM_FILE) is not None,
            sha256=_sha256(weights),
            notes=(*chosen, *settings.notes),
        )

    @cached_property
    def _limit(self) -> int:
        return 4 * sum(int(weight.numel()) for weight in self._loaded.model.parameters()) + _SLACK

    def _named(self, settings: LoraSettings) -> list[str]:
        """Return the modules that a configuration names; all-linear leaves out embeddings and outputs."""
        output = self._loaded.model.get_output_embeddings()
        outputs = {path for path, module in self._loaded.model.named_modules() if module is output}
        embeddings = {
            path for path, module in self._loaded.model.named_modules() if isinstance(module, torch.nn.Embedding)
        }
        return settings.named(self.modules, outputs | embeddings)

    def _layers(self, file: Any, settings: LoraSettings) -> tuple[tuple[LoraLayer, ...], tuple[str, ...]]:
        """Pair the A and B matrices by module; return the pairs and the names of tensors without a use."""
        halves: dict[str, dict[str, str]] = {}
        strays = []
        for name in file.keys():  # noqa: SIM118 - a handle of safetensors, not a dict
            match = _PART.fullmatch(name)
            if match and match["part"] in _HALVES:
                halves.setdefault(match["module"], {})[_HALVES[match["part"]]] = name
            elif not match and not self._is_known(name, file, settings):
                strays.append(name)
        strays += [name for half in halves.values() if len(half) < 2 for name in half.values()]
        layers = []
        for module, half in halves.items():
            if len(half) == 2:
                a, b = file.get_tensor(half["A"]), file.get_tensor(half["B"])
                if a.ndim != 2 or b.ndim != 2:
                    strays += half.values()
                    continue
                finite = bool(a.isfinite().all() and b.isfinite().all())
                layers.append(LoraLayer(module, tuple(a.shape), tuple(b.shape), not (a.any() and b.any()), finite))
        return tuple(layers), tuple(sorted(strays))

    def _is_known(self, name: str, file: Any, settings: LoraSettings) -> bool:
        """Whether a tensor replaces a module that it may replace, or repeats what the base model has."""
        match = _BASE_TENSOR.fullmatch(name)
        mine = self._weights.get(f"{match['module']}.{match['kind']}") if match else None
        if match is None or mine is None or list(mine.shape) != file.get_slice(name).get_shape():
            return False
        if match["module"].endswith(settings.saved):
            return True
        return torch.equal(file.get_tensor(name).to(mine), mine)

    @cached_property
    def _weights(self) -> Mapping[str, torch.Tensor]:
        return dict(self._loaded.model.named_parameters(remove_duplicate=False))


def weights_file(folder: Path, limit: int = 1 << 40) -> Path:
    """Return the weights' file.

    Raises:
        MissingFileError: there is none.
        LoraAdapterError: it is a pickle under whatever name, not a regular file, or larger than `limit` bytes.
    """
    weights = checked_file(folder, WEIGHTS_FILE, limit)
    if weights is None:
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


def is_lora_tensor(name: str) -> bool:
    """Tell whether a tensor's name is one of peft's own for LoRA layers."""
    return _PART.fullmatch(name) is not None


def base_module(name: str) -> str | None:
    """Return the path of the base model's module that a tensor repeats or replaces; None for LoRA's own."""
    match = None if is_lora_tensor(name) else _BASE_TENSOR.fullmatch(name)
    return match["module"] if match else None


def _shapes(model: torch.nn.Module) -> Iterator[tuple[str, tuple[int, int]]]:
    for path, module in model.named_modules():
        if isinstance(module, torch.nn.Linear):
            yield path, (module.in_features, module.out_features)
        elif isinstance(module, torch.nn.Embedding):
            yield path, (module.num_embeddings, module.embedding_dim)
        elif isinstance(module, Conv1D):  # GPT-2's transposed linear layer
            yield path, (int(module.weight.shape[0]), int(module.weight.shape[1]))


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
