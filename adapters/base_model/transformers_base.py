"""Loading the frozen base model with transformers: the embedded one, a folder, or a model of the Hugging Face hub."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import torch
from attrs import field, frozen
from safetensors import SafetensorError
from transformers import AutoConfig, AutoModel, AutoModelForCausalLM, AutoModelForImageTextToText, AutoTokenizer

from adapters.base_model.base_fingerprint import base_fingerprint, tensor_names, weight_files
from adapters.base_model.embedded_base import EMBEDDED_NAME, ensure_embedded_base
from adapters.base_model.hub_snapshot import model_folder
from adapters.base_model.transformers_quiet import quiet_transformers
from application.ports import ProgressReporter
from domain.errors import DataRejectedError, OutOfMemoryError, UsageError
from domain.features import BaseModel

Kind = Literal["causal", "encoder", "vision-language"]

_VOCABULARIES = (
    *("tokenizer.json", "tokenizer.model", "vocab.json", "vocab.txt", "spiece.model", "sentencepiece.bpe.model"),
    *("tekken.json", "tokenizer_config.json"),
)
"""Files one of which every tokenizer has."""

_LOADERS = {"causal": AutoModelForCausalLM, "encoder": AutoModel, "vision-language": AutoModelForImageTextToText}


@frozen(eq=False)
class LoadedBase:
    """A base model in memory: frozen, in evaluation mode.

    One object serves routing and generation; LoRA layers may be injected into it. PyTorch modules with hooks
    and peft layers are not safe to run from two threads at once, so whoever runs the model holds `lock`.

    Attributes:
        model: the transformers model, with its generation head unless it has none or fewer layers were loaded.
        tokenizer: its tokenizer.
        info: name, fingerprint, depth and width of the whole model.
        kind: "causal" and "vision-language" can generate; "encoder" is every model without a generation head.
        text_tower: the part of `model` that reads text.
        blocks: the tower's transformer blocks, in order; fewer than `info.n_layers` when loaded with `max_layer`.
        folder: where its files lie.
        lock: held while the model runs.
    """

    model: Any
    tokenizer: Any
    info: BaseModel
    kind: Kind
    text_tower: torch.nn.Module
    blocks: tuple[torch.nn.Module, ...]
    folder: Path
    lock: Any = field(factory=threading.RLock)

    @property
    def device(self) -> torch.device:
        """Where the weights lie."""
        return next(self.text_tower.parameters()).device

    @property
    def is_whole(self) -> bool:
        """Whether all layers are loaded, so that it can generate (if its kind can) and give the last layer."""
        return len(self.blocks) == self.info.n_layers


def load_base(
    name_or_path: str | None,
    *,
    cache_dir: Path,
    device: str | None = None,
    progress: ProgressReporter | None = None,
    max_layer: int | Callable[[int], int] | None = None,
) -> LoadedBase:
    """Load a base model.

    Weights are bfloat16 on a GPU that has it, and float32 on the CPU: bfloat16 was twice as fast on a CPU with
    AVX512-BF16 but makes features differ by 1e-2 between batches, and needs such a CPU (docs/experiments.md).

    Args:
        name_or_path: a folder in Hugging Face format, a hub id, or None (or the name that router files give it)
            for the embedded model.
        cache_dir: where the embedded model is kept after its one conversion.
        device: "cpu", "cuda", "cuda:1"; None takes a GPU when there is one.
        progress: shows the conversion.
        max_layer: load only what features up to this ``hidden_states`` index need: no upper blocks, no
            generation head, no vision tower. The features, and the fingerprint, are those of the whole model.
            Also as a function of the model's number of blocks.

    Raises:
        UsageError: the device does not exist, or `max_layer` is outside the model.
        MissingFileError: no such folder, or the embedded model is not installed.
        DataRejectedError: no safetensors weights, damaged or incomplete files, or a kind that is not supported.
        RemoteError: the hub did not give it.
        OutOfMemoryError: the GPU is too small for it.
    """
    target = _device(device)
    name = name_or_path or EMBEDDED_NAME
    embedded = name == EMBEDDED_NAME and not Path(name).is_dir()
    folder = ensure_embedded_base(cache_dir, progress) if embedded else model_folder(name)
    with quiet_transformers(), _translated(name):
        config = AutoConfig.from_pretrained(folder, trust_remote_code=False)
        kind = _kind(config, name)
        text = config.get_text_config()
        if callable(max_layer):
            max_layer = max_layer(int(text.num_hidden_layers))
        if max_layer is not None and not 0 <= max_layer <= text.num_hidden_layers:  # before anything that takes long
            raise UsageError(f"layer {max_layer} is not in 0..{text.num_hidden_layers}", where=f"base model {name}")
        tokenizer = _tokenizer(folder, name)
        fingerprint = base_fingerprint(folder, text, tokenizer)
        info = BaseModel(name, fingerprint, int(text.num_hidden_layers), int(text.hidden_size))
        cut = max_layer is not None and _cut(text, max_layer, info)
        model = _weights(_ways(folder, config, kind, cut), folder, target, name)
    tower = model.base_model if kind == "encoder" else model.get_decoder()
    return LoadedBase(
        model=model,
        tokenizer=tokenizer,
        info=info,
        kind=kind,
        text_tower=tower,
        blocks=_blocks(tower, int(text.num_hidden_layers), name),
        folder=folder,
    )


def _tokenizer(folder: Path, name: str) -> Any:
    if not any((folder / file).exists() for file in _VOCABULARIES):
        raise DataRejectedError(
            "it has no tokenizer: tokenizer.json is missing", where=name, hint="copy it out of the original model"
        )
    return AutoTokenizer.from_pretrained(folder, trust_remote_code=False)


def _device(wanted: str | None) -> torch.device:
    if wanted is None:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(wanted)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise UsageError(f"device {wanted!r} is not available here", hint="use cpu, or leave it out") from error
    return device


def _kind(config: Any, name: str) -> Kind:
    if getattr(config, "is_encoder_decoder", False):
        raise DataRejectedError(
            f"{config.model_type} is an encoder-decoder model", where=name, hint="use a causal model or an encoder"
        )
    architecture = (getattr(config, "architectures", None) or [""])[0]
    if getattr(config, "vision_config", None) is not None and config.get_text_config() is not config:
        return "vision-language"
    return "causal" if architecture.endswith(("ForCausalLM", "LMHeadModel")) else "encoder"


def _cut(text_config: Any, max_layer: int, info: BaseModel) -> bool:
    """Shorten the configuration to `max_layer` blocks; return whether that left anything out."""
    depth = max(max_layer, 1)  # layer 0 is what the first block is given
    if depth == info.n_layers:
        return False  # the last hidden state needs the final norm: the whole model
    for key, value in list(vars(text_config).items()):
        if isinstance(value, list) and len(value) == info.n_layers:  # per-layer lists such as layer_types
            setattr(text_config, key, value[:depth])
    text_config.num_hidden_layers = depth
    return True


def _ways(folder: Path, config: Any, kind: Kind, cut: bool) -> list[tuple[Any, dict[str, Any]]]:
    """Return how the model can be loaded, the leanest way first: what loads it, and with which options."""
    if not cut:
        return [(_LOADERS[kind], {"config": config})]
    ways = [(AutoModel, {"config": config})]
    mark = "embed_tokens.weight"
    prefix = next((name.removesuffix(mark) for name in tensor_names(folder) if name.endswith(mark)), None)
    if kind == "vision-language" and prefix:  # the text tower alone: its tensors, without the prefix
        mapping = {f"^{re.escape(prefix)}": ""}
        ways.insert(0, (AutoModel, {"config": config.get_text_config(), "key_mapping": mapping}))
    return ways


def _weights(ways: list[tuple[Any, dict[str, Any]]], folder: Path, device: torch.device, name: str) -> Any:
    weight_files(folder)  # the clear message, where transformers would look for pickles
    half = device.type == "cuda" and torch.cuda.is_bf16_supported()
    missing: list[str] = []
    for loader, options in ways:
        model, report = loader.from_pretrained(
            folder,
            dtype=torch.bfloat16 if half else torch.float32,
            device_map={"": device} if device.type == "cuda" else None,
            use_safetensors=True,
            trust_remote_code=False,
            output_loading_info=True,
            **options,
        )
        # A missing tensor was filled with random numbers. Poolers are not read by anything here.
        missing = sorted(key for key in report["missing_keys"] if "pooler" not in key)
        if not missing:
            return model.to(device).eval().requires_grad_(False)
    raise DataRejectedError(f"{len(missing)} tensors are missing from the weights: {missing[0]}", where=name)


def _blocks(tower: torch.nn.Module, depth: int, name: str) -> tuple[torch.nn.Module, ...]:
    lists = [
        (path.count("."), tuple(module))
        for path, module in tower.named_modules()
        if isinstance(module, torch.nn.ModuleList) and len(module) == depth
    ]
    if not lists:
        raise DataRejectedError(
            f"no list of {depth} blocks found in {type(tower).__name__}", where=name, hint="use another base model"
        )
    return min(lists, key=lambda entry: entry[0])[1]


@contextmanager
def _translated(name: str) -> Iterator[None]:
    try:
        yield
    except (DataRejectedError, UsageError):
        raise
    except torch.OutOfMemoryError as error:
        raise OutOfMemoryError(
            "the GPU's memory is too small for this base model",
            where=name,
            hint="take a larger GPU or a smaller base",
        ) from error
    except (OSError, ValueError, KeyError, RuntimeError, ImportError, SafetensorError) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise DataRejectedError(f"transformers cannot load this base model: {reason[:200]}", where=name) from error
