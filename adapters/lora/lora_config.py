"""A LoRA adapter's configuration: which keys are used, which do no harm, and which refuse it.

Nothing of a configuration reaches peft but what stands in :class:`LoraSettings`. Patterns are matched here, with a
limit of time, and peft is given plain module paths.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Any

import orjson
import regex  # type: ignore[import-untyped]  # `re` with a limit of time
from attrs import field, frozen

from adapters.lora.lora_files import CONFIG_FILE
from adapters.lora.safe_files import CONFIG_LIMIT, read_file
from domain.errors import LoraAdapterError

ALL_LINEAR = "all-linear"
PATTERN_SECONDS = 0.2

_KEEPS_BASE = (True, False, None, "gaussian", "orthogonal", "eva", "loftq")
"""Ways to initialise that leave the base model's weights alone; the others (PiSSA, OLoRA, …) would change them."""

_HARMLESS = {
    *("auto_mapping", "base_model_name_or_path", "revision", "inference_mode", "task_type", "peft_version"),
    *("lora_dropout", "megatron_core", "loftq_config", "eva_config", "corda_config", "lora_ga_config"),
    *("runtime_config", "qalora_group_size", "init_lora_weights", "bias", "ensure_weight_tying", "layers_pattern"),
    "_custom_modules",
}
_USED = {
    *("peft_type", "r", "lora_alpha", "target_modules", "rank_pattern", "alpha_pattern", "layers_to_transform"),
    *("exclude_modules", "modules_to_save", "use_rslora", "use_dora", "lora_bias", "fan_in_fan_out"),
}
_REFUSED = {
    "alora_invocation_tokens": "it is an activated LoRA: it acts only after its invocation tokens, which prompts "
    "here do not bring",
    "target_parameters": "it changes single parameters, as of experts (target_parameters); peft holds several LoRA "
    "adapters of this kind only when all change the same ones",
    "layer_replication": "it repeats blocks of the base model, which all share",
}
"""Keys that are known, with the reason why they refuse a configuration that uses them."""


@frozen
class LoraSettings:
    """What is used of a configuration.

    Attributes:
        kind: peft's name of the method.
        base_name: the base model that it was made for; "" when not stated.
        rank: the rank that it states.
        alpha: the alpha that it states.
        targets: the names of modules; one pattern, or `ALL_LINEAR`, where it is a text.
        excluded: names of modules that are left out of them, or one pattern.
        rank_pattern: names or patterns of modules that have another rank.
        alpha_pattern: names or patterns of modules that have another alpha.
        only_blocks: numbers of the blocks that are changed; empty for all.
        saved: names of modules that are replaced as a whole.
        rslora, dora, lora_bias, fan_in_fan_out: peft's switches.
        notes: what a person should know of the rest.
    """

    kind: str
    base_name: str
    rank: int
    alpha: float
    targets: str | tuple[str, ...]
    excluded: str | tuple[str, ...] = ()
    rank_pattern: Mapping[str, int] = field(factory=dict)
    alpha_pattern: Mapping[str, float] = field(factory=dict)
    only_blocks: frozenset[int] = frozenset()
    saved: tuple[str, ...] = ()
    rslora: bool = False
    dora: bool = False
    lora_bias: bool = False
    fan_in_fan_out: bool = False
    notes: tuple[str, ...] = ()

    def alpha_of(self, module: str) -> float:
        """Return a module's alpha."""
        return _by_pattern(self.alpha_pattern, module, self.alpha)

    def rank_of(self, module: str) -> int:
        """Return the rank that a module should have."""
        return int(_by_pattern(self.rank_pattern, module, self.rank))

    def named(self, modules: Iterable[str], outputs: Collection[str]) -> list[str]:
        """Return those of the base model's modules that it means to change; "all-linear" leaves out `outputs`."""
        if self.targets == ALL_LINEAR:
            found = [module for module in modules if module not in outputs]
        else:
            found = [module for module in modules if _is_named(module, self.targets)]
        return [
            module
            for module in found
            if not _is_named(module, self.excluded) and (not self.only_blocks or _block(module) in self.only_blocks)
        ]


def read_settings(folder: Path) -> LoraSettings:
    """Read a configuration.

    Raises:
        MissingFileError: there is none.
        LoraAdapterError: it is damaged, or has a key that cannot be followed without changing the base model.
    """
    try:
        config: Any = orjson.loads(read_file(folder, CONFIG_FILE, CONFIG_LIMIT))
    except orjson.JSONDecodeError as error:
        raise LoraAdapterError(f"{CONFIG_FILE} is damaged: {error}", where=folder) from error
    if not isinstance(config, dict):
        raise LoraAdapterError(f"{CONFIG_FILE} is not an object", where=folder)
    try:
        return _settings(config)
    except ValueError as error:
        raise LoraAdapterError(f"{CONFIG_FILE}: {error}", where=folder) from error


def _settings(config: dict[str, Any]) -> LoraSettings:
    kind = config.get("peft_type")
    base_name = str(config.get("base_model_name_or_path") or "")
    if kind != "LORA":
        return LoraSettings(str(kind or ""), base_name, 0, 0.0, ())
    if config.get("init_lora_weights") not in _KEEPS_BASE:
        raise ValueError(
            f"its initialisation {config['init_lora_weights']!r} changes the base model that all share; save it as a "
            "plain LoRA (peft: path_initial_model_for_weight_conversion)"
        )
    return LoraSettings(
        kind=kind,
        base_name=base_name,
        rank=_number(config, "r", int, 8),
        alpha=_number(config, "lora_alpha", float, 8),
        targets=_names_or_pattern(config, "target_modules"),
        excluded=_names_or_pattern(config, "exclude_modules"),
        rank_pattern=_pattern_values(config, "rank_pattern", int),
        alpha_pattern=_pattern_values(config, "alpha_pattern", float),
        only_blocks=_blocks(config.get("layers_to_transform")),
        saved=_names(config, "modules_to_save"),
        rslora=_switch(config, "use_rslora"),
        dora=_switch(config, "use_dora"),
        lora_bias=_switch(config, "lora_bias"),
        fan_in_fan_out=_switch(config, "fan_in_fan_out"),
        notes=_notes(config),
    )


def _notes(config: dict[str, Any]) -> tuple[str, ...]:
    """Return what is ignored; a switch or a structure that this version does not know refuses the configuration."""
    unknown = [key for key in config if key not in _USED | _HARMLESS]
    for key in unknown:
        value = config[key]
        if value and key in _REFUSED:
            raise ValueError(_REFUSED[key])
        if value is True or (value and not isinstance(value, str | int | float)):
            raise ValueError(f"it uses {key[:60]}, which this version does not know how to follow")
    ignored = [key[:60] for key in unknown if config[key] not in (None, False, [], {})]
    return (f"keys of its configuration that are not used: {', '.join(ignored[:5])}",) if ignored else ()


def _number(config: dict[str, Any], key: str, kind: type, default: float) -> Any:
    value = config.get(key)
    value = default if value is None else value
    if isinstance(value, bool) or not isinstance(value, (int, float) if kind is float else int):
        raise ValueError(f"{key} is {str(value)[:40]!r}, not a number")
    return kind(value)


def _switch(config: dict[str, Any], key: str) -> bool:
    value = config.get(key)
    if value not in (None, True, False):
        raise ValueError(f"{key} is neither true nor false")
    return bool(value)


def _names(config: dict[str, Any], key: str) -> tuple[str, ...]:
    value = config.get(key)
    if value is None:
        return ()
    if not isinstance(value, list) or not all(isinstance(each, str) for each in value):
        raise ValueError(f"{key} is not a list of names")
    return tuple(sorted(value))


def _names_or_pattern(config: dict[str, Any], key: str) -> str | tuple[str, ...]:
    value = config.get(key)
    return _checked(value) if isinstance(value, str) else _names(config, key)


def _pattern_values(config: dict[str, Any], key: str, kind: type) -> dict[str, Any]:
    value = config.get(key)
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise ValueError(f"{key} is not an object")
    return {_checked(pattern): _number(value, pattern, kind, 0) for pattern in value}


def _blocks(value: Any) -> frozenset[int]:
    found = [value] if isinstance(value, int) and not isinstance(value, bool) else value
    if found is None:
        return frozenset()
    if not isinstance(found, list) or not all(isinstance(each, int) for each in found):
        raise ValueError("layers_to_transform is not a list of numbers")
    return frozenset(found)


def _is_named(module: str, names: str | tuple[str, ...]) -> bool:
    if isinstance(names, str):
        return _matches(names, module)
    return module in names or module.endswith(tuple(f".{name}" for name in names))


def _block(module: str) -> int | None:
    return next((int(part) for part in module.split(".") if part.isdigit()), None)


def _checked(pattern: str) -> str:
    try:
        if len(pattern) > 4096:
            raise ValueError("a pattern of more than 4096 characters")
        regex.compile(pattern)
    except regex.error as error:
        raise ValueError(f"{pattern[:60]!r} is not a pattern: {error}") from error
    return pattern


def _by_pattern(values: Mapping[str, float], module: str, default: float) -> float:
    for pattern, value in values.items():
        if _matches(rf"(.*\.)?({pattern})", module):
            return value
    return default


def _matches(pattern: str, module: str) -> bool:
    try:
        return regex.fullmatch(pattern, module, timeout=PATTERN_SECONDS) is not None
    except TimeoutError as error:
        raise LoraAdapterError(f"{CONFIG_FILE}: its pattern {pattern[:60]!r} takes too long to match") from error
