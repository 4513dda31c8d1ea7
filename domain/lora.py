"""What a LoRA adapter's files say, and what can be wrong with them."""

from __future__ import annotations

from collections.abc import Mapping

from attrs import frozen

from domain.features import BaseModel

MIN_DISTANCE = 1e-4
"""LoRA adapters that change the logits by less (in standard deviations) have no effect; zero B gives exactly 0."""


@frozen
class LoraLayer:
    """One pair of LoRA matrices.

    Attributes:
        module: the base model's module that it belongs to, by its path.
        a_shape: shape of A, (rank, in).
        b_shape: shape of B, (out, rank).
        zero: whether B or A holds nothing but zeros, so that the layer has no effect.
        finite: whether all numbers are finite.
    """

    module: str
    a_shape: tuple[int, ...]
    b_shape: tuple[int, ...]
    zero: bool
    finite: bool


@frozen
class LoraFacts:
    """What a LoRA adapter's folder holds, as read without running anything.

    Attributes:
        folder: where it lies.
        kind: peft's name of the method, "LORA" for the one that is supported.
        base_name: name of the base model that it was made for, as its files say; "" when they do not.
        base_fingerprint: fingerprint of that base model, where its files have one.
        rank: rank that the configuration states.
        ranks_vary: whether the configuration gives some modules another rank.
        targets: the modules that the configuration names, by the last part of their paths where it is a list.
        layers: the pairs of matrices.
        strays: names of tensors that are not part of a pair of LoRA matrices.
        unfilled: modules of the base model that the configuration names and that have no matrices.
        size: bytes of weights.
        has_system_prompt: whether a system turn lies beside the weights.
        sha256: hash of the weights' file; changes whenever a weight does.
        notes: what a person should know of its files.
        unnamed: modules that have matrices and that the configuration does not name.
    """

    folder: str
    kind: str
    base_name: str
    base_fingerprint: str | None
    rank: int
    ranks_vary: bool
    targets: tuple[str, ...]
    layers: tuple[LoraLayer, ...]
    strays: tuple[str, ...]
    unfilled: tuple[str, ...]
    size: int
    has_system_prompt: bool
    sha256: str = ""
    notes: tuple[str, ...] = ()
    unnamed: tuple[str, ...] = ()


ModuleShapes = Mapping[str, tuple[int, int]]
"""The base model's layers that can carry LoRA matrices: path to (in, out)."""


def find_problems(facts: LoraFacts, base: BaseModel, modules: ModuleShapes) -> tuple[str, ...]:
    """Return what makes a LoRA adapter unfit for a base model, in words; nothing when it fits."""
    if facts.kind != "LORA":
        return (f"its kind is {facts.kind or 'not stated'}, not LORA",)
    if not facts.layers:
        return (_no_layers(facts),)
    checks = (
        _wrong_base(facts, base),
        _foreign_modules(facts, modules),
        _wrong_shapes(facts, base, modules),
        _wrong_rank(facts),
        _strays(facts),
        _unfilled(facts),
        _unnamed(facts),
        None if all(layer.finite for layer in facts.layers) else "some of its weights are not finite",
        "all its B or A matrices are zero: it has no effect" if all(layer.zero for layer in facts.layers) else None,
    )
    return tuple(problem for problem in checks if problem)


def find_warnings(facts: LoraFacts, base: BaseModel) -> tuple[str, ...]:
    """Return what a person should look at although the LoRA adapter may work.

    Another name of the base model is no more than that: repositories are renamed, quantised and kept in folders.
    """
    named = facts.base_name and facts.base_fingerprint is None and not _same_name(facts.base_name, base.name)
    dead = sum(layer.zero for layer in facts.layers)
    return (
        *((f"made for {facts.base_name}, loaded is {base.name}",) if named else ()),
        *((f"{dead} of {len(facts.layers)} layers are zero",) if 0 < dead < len(facts.layers) else ()),
        *facts.notes,
    )


def effect_problems(
    name: str, names: tuple[str, ...], to_base: float, to_others: tuple[float, ...]
) -> tuple[str, ...]:
    """Return what the live probe found wrong with one LoRA adapter; distances as LoraDistances defines them."""
    if not to_base >= MIN_DISTANCE:  # written so that NaN is a problem
        return (f"it does not change the base model's answers (distance {to_base:.1e})",)
    twins = [
        other for other, apart in zip(names, to_others, strict=True) if other != name and not apart >= MIN_DISTANCE
    ]
    return (f"it answers exactly as {', '.join(twins)} does",) if twins else ()


def _no_layers(facts: LoraFacts) -> str:
    found = f"; its tensors are named like {facts.strays[0]}" if facts.strays else ""
    return f"its weights hold no pair of LoRA matrices{found}"


def _wrong_base(facts: LoraFacts, base: BaseModel) -> str | None:
    if facts.base_fingerprint is not None:
        if facts.base_fingerprint == base.fingerprint:
            return None
        return (
            f"it was trained on another base model: {facts.base_name} {facts.base_fingerprint[:16]}, "
            f"loaded is {base.name} {base.fingerprint[:16]}"
        )
    return None


def _foreign_modules(facts: LoraFacts, modules: ModuleShapes) -> str | None:
    foreign = [layer.module for layer in facts.layers if layer.module not in modules]
    if not foreign:
        return None
    return (
        f"{len(foreign)} of its {len(facts.layers)} layers belong to no module of the base model: {foreign[0]} "
        f"(the base model has {_closest(foreign[0], modules)})"
    )


def _closest(path: str, modules: ModuleShapes) -> str:
    last = path.rsplit(".", 1)[-1]
    return next((name for name in modules if name.rsplit(".", 1)[-1] == last), next(iter(modules), "none"))


def _wrong_shapes(facts: LoraFacts, base: BaseModel, modules: ModuleShapes) -> str | None:
    for layer in facts.layers:
        if layer.module in modules and (layer.a_shape[-1], layer.b_shape[0]) != modules[layer.module]:
            have, want = f"{layer.a_shape[-1]}→{layer.b_shape[0]}", "{}→{}".format(*modules[layer.module])
            return f"{layer.module} is {have} in it and {want} in the base model (hidden size {base.hidden_size})"
    return None


def _wrong_rank(facts: LoraFacts) -> str | None:
    for layer in facts.layers:
        if layer.a_shape[0] != layer.b_shape[-1] or layer.a_shape[0] < 1:
            return f"ranks of A and B differ in {layer.module}: {layer.a_shape[0]} and {layer.b_shape[-1]}"
        if not facts.ranks_vary and layer.a_shape[0] != facts.rank:
            return f"its configuration says rank {facts.rank}, its weights have {layer.a_shape[0]} in {layer.module}"
    return None


def _strays(facts: LoraFacts) -> str | None:
    if not facts.strays:
        return None
    return f"{len(facts.strays)} tensors are not LoRA matrices that this version can load, such as {facts.strays[0]}"


def _unfilled(facts: LoraFacts) -> str | None:
    if not facts.unfilled:
        return None
    return f"{len(facts.unfilled)} modules that its configuration names have no weights, such as {facts.unfilled[0]}"


def _unnamed(facts: LoraFacts) -> str | None:
    if not facts.unnamed:
        return None
    return (
        f"{len(facts.unnamed)} modules have weights that its configuration does not name, such as {facts.unnamed[0]}"
    )


def _same_name(one: str, other: str) -> bool:
    return one.rstrip("/").rsplit("/", 1)[-1].casefold() == other.rstrip("/").rsplit("/", 1)[-1].casefold()
