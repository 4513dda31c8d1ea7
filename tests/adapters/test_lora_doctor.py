"""Every kind of LoRA adapter that would give a silent base-model answer, or worse, is named and refused."""

from __future__ import annotations

import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from adapters.base_model.transformers_base import LoadedBase, load_base
from adapters.lora.lora_inspection import SafetensorsLoraInspector
from adapters.lora.peft_engine import PeftEngine
from application.answering.check_lora_adapters import CheckLoraAdapters, LoraCheck
from domain.errors import LoraAdapterError
from tests.lora_world import NAMES, edit_config, edit_weights, write_loras
from tests.tiny_models import tiny_model


@pytest.fixture(scope="module")
def sound(tiny_base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    base = load_base(str(tiny_base), cache_dir=tiny_base.parent, device="cpu")
    folder = tmp_path_factory.mktemp("sound")
    write_loras(base, folder)
    return folder


@pytest.fixture
def folders(sound: Path, tmp_path: Path) -> dict[str, Path]:
    shutil.copytree(sound, tmp_path / "loras")
    return {name: tmp_path / "loras" / name for name in NAMES}


@pytest.fixture
def base(tiny_base: Path) -> LoadedBase:
    return load_base(str(tiny_base), cache_dir=tiny_base.parent, device="cpu")


def check(base: LoadedBase, folders: dict[str, Path]) -> LoraCheck:
    engine = PeftEngine(base)
    report = CheckLoraAdapters(SafetensorsLoraInspector(base), engine)(folders)
    assert engine.adapters == tuple(each.name for each in report.diagnoses if each.sound)
    return report


def test_sound_adapters_pass_with_their_facts(base: LoadedBase, folders: dict[str, Path]) -> None:
    report = check(base, folders)
    report.require_sound()
    assert [each.name for each in report.diagnoses] == list(NAMES)
    for each in report.diagnoses:
        assert each.facts is not None
        assert (each.facts.rank, each.facts.targets, len(each.facts.layers)) == (4, ("down_proj", "q_proj"), 8)
        assert each.effect is not None and each.effect > 0.1  # noqa: PT018
        assert each.nearest in NAMES and each.nearest != each.name  # noqa: PT018
        assert each.warnings == ()


Change = Callable[[Path], Any]


def _scaled(pattern: str, factor: float) -> Change:
    return lambda folder: edit_weights(
        folder, lambda tensors: {name: value * (factor if pattern in name else 1) for name, value in tensors.items()}
    )


def _renamed(old: str, new: str) -> Change:
    return lambda folder: edit_weights(
        folder, lambda tensors: {name.replace(old, new): value for name, value in tensors.items()}
    )


def _pickle(name: str, protocol: int | None) -> Change:
    def change(folder: Path) -> None:
        (folder / "adapter_model.safetensors").unlink()
        if protocol is None:
            torch.save({"x": torch.zeros(2)}, folder / name)
        else:
            (folder / name).write_bytes(pickle.dumps(_Canary(folder / "canary"), protocol=protocol))

    return change


class _Canary:
    """Writes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return Path.write_text, (self.path, "code ran")


def _truncated(folder: Path) -> None:
    weights = folder / "adapter_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-10])


def _nan(folder: Path) -> None:
    edit_weights(folder, lambda tensors: {name: value.fill_(float("nan")) for name, value in tensors.items()})


def _without(pattern: str) -> Change:
    return lambda folder: edit_weights(
        folder, lambda tensors: {name: value for name, value in tensors.items() if pattern not in name}
    )


def _extra(folder: Path) -> None:
    edit_weights(folder, lambda tensors: {**tensors, "base_model.model.lm_head.weight": torch.zeros(2, 2)})


FAULTS: dict[str, tuple[Change, str]] = {
    "zero B": (_scaled("lora_B", 0), "are zero: it has no effect"),
    "zero A": (_scaled("lora_A", 0), "are zero: it has no effect"),
    "too weak": (_scaled("lora_B", 1e-9), "does not change the base model's answers"),
    "prefix lost": (
        _renamed("base_model.model.model.", "base_model.model."),
        "belong to no module of the base model",
    ),
    "prefix doubled": (_renamed("base_model.model.", "base_model.model.base_model.model."), "belong to no module"),
    "other prefix": (
        _renamed("base_model.model.", "transformer."),
        "LoRA matrices; .* named like transformer",
    ),
    "adapter name in keys": (_renamed(".weight", ".default.weight"), "no pair of LoRA matrices"),
    "one half missing": (_without("lora_B"), "no pair of LoRA matrices"),
    "some halves missing": (_without("0.self_attn.q_proj.lora_B"), "1 tensors are not LoRA matrices"),
    "one layer missing": (_without("0.self_attn.q_proj"), "1 modules that its configuration names have no weights"),
    "not finite": (_nan, "not finite"),
    "more than LoRA": (_extra, "not LoRA matrices that this version can load"),
    "truncated": (_truncated, "adapter_model.safetensors is damaged"),
    "pickle": (_pickle("adapter_model.bin", 4), "are a pickle"),
    "torch pickle": (_pickle("adapter_model.bin", None), "are a pickle"),
    "pickle in disguise": (_pickle("adapter_model.safetensors", 4), "is a pickle"),
    "old pickle in disguise": (_pickle("adapter_model.safetensors", 0), "damaged|is a pickle"),
    "torch pickle in disguise": (_pickle("adapter_model.safetensors", None), "is a pickle"),
    "no weights": (lambda folder: (folder / "adapter_model.safetensors").unlink(), "safetensors is missing"),
    "no configuration": (lambda folder: (folder / "adapter_config.json").unlink(), "adapter_config.json is missing"),
    "broken configuration": (lambda folder: (folder / "adapter_config.json").write_text("{"), "is damaged"),
    "configuration is a list": (lambda folder: (folder / "adapter_config.json").write_text("[]"), "is not an object"),
    "system turn of bytes": (lambda folder: (folder / "system_prompt.txt").write_bytes(b"\xff"), "is not UTF-8 text"),
    "no folder": (shutil.rmtree, "no such folder"),
    "another rank": (lambda folder: edit_config(folder, r=8), "configuration says rank 8, its weights have 4"),
    "alpha is 0": (lambda folder: edit_config(folder, lora_alpha=0), "does not change the base model"),
    "another method": (lambda folder: edit_config(folder, peft_type="IA3"), "its kind is IA3, not LORA"),
    "DoRA": (lambda folder: edit_config(folder, use_dora=True), "8 layers without a tensor"),
    "PiSSA": (lambda folder: edit_config(folder, init_lora_weights="pissa"), "changes the base model that all share"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_bad_adapter_is_refused_by_name_and_its_neighbours_are_not(
    base: LoadedBase, folders: dict[str, Path], fault: str
) -> None:
    change, message = FAULTS[fault]
    change(folders["claim-window"])
    report = check(base, folders)
    assert [each.sound for each in report.diagnoses] == [True, False, True]
    with pytest.raises(LoraAdapterError, match=f"(?s)LoRA adapter claim-window is refused: .*({message})"):
        report.require_sound()
    assert not (folders["claim-window"] / "canary").exists()


def test_twins_are_refused(base: LoadedBase, folders: dict[str, Path]) -> None:
    shutil.rmtree(folders["calendar"])
    shutil.copytree(folders["claim-window"], folders["calendar"])
    report = check(base, folders)
    assert [each.problems for each in report.diagnoses] == [
        ("it answers exactly as claim-window does",),
        ("it answers exactly as calendar does",),
        (),
    ]


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        ({"hidden_size": 48, "head_dim": 12}, r"48→32 in it and 48→48 in the base model \(hidden size 48\)"),
        ({"num_hidden_layers": 2}, "4 of its 8 layers belong to no module"),
        ({}, "trained on another base model"),
    ],
)
def test_a_foreign_base_model(folders: dict[str, Path], tmp_path: Path, sizes: Any, message: str) -> None:
    other = load_base(str(tiny_model(tmp_path / "other", seed=9, **sizes)), cache_dir=tmp_path, device="cpu")
    if sizes:
        for folder in folders.values():
            edit_weights(folder, lambda tensors: tensors)  # drops the fingerprint: an adapter of another tool
    report = check(other, folders)
    assert not any(each.sound for each in report.diagnoses)
    with pytest.raises(LoraAdapterError, match=message):
        report.require_sound()


def test_another_name_of_the_base_model_is_a_warning_where_it_may_be_a_path(
    base: LoadedBase, folders: dict[str, Path]
) -> None:
    edit_weights(folders["calendar"], lambda tensors: tensors)
    edit_config(folders["calendar"], base_model_name_or_path="someone/another-model")
    diagnosis = check(base, folders).diagnoses[0]
    assert diagnosis.sound
    assert diagnosis.warnings[0].startswith("made for someone/another-model, loaded is ")
