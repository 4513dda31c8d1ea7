"""LoRA folders as they come: odd ones that are sound answer, hostile ones are refused by name, and alone."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from adapters.base_model.transformers_base import LoadedBase, load_base
from adapters.lora.lora_inspection import SafetensorsLoraInspector
from adapters.lora.peft_engine import PeftEngine
from adapters.lora.peft_loading import BaseWatch
from application.answering.check_lora_adapters import CheckLoraAdapters, LoraCheck
from application.ports.answering import Generation, GenerationRequest
from domain.answers import GenerationOptions
from domain.chats import as_chat
from tests.lora_world import edit_config, edit_weights, write_loras
from tests.tiny_models import tiny_tokenizer

SHORT = GenerationOptions(max_new_tokens=8)
PROMPTS = ("Book a table", "File a claim for the broken window, please.")


@pytest.fixture(scope="module")
def sound(tiny_base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    base = load_base(str(tiny_base), cache_dir=tiny_base.parent, device="cpu")
    folder = tmp_path_factory.mktemp("sound")
    write_loras(base, folder, ("A", "B", "lora_A"))
    return folder


@pytest.fixture
def folders(sound: Path, tmp_path: Path) -> dict[str, Path]:
    shutil.copytree(sound, tmp_path / "loras")
    return {name: tmp_path / "loras" / name for name in ("A", "B", "lora_A")}


@pytest.fixture
def base(tiny_base: Path) -> LoadedBase:
    return load_base(str(tiny_base), cache_dir=tiny_base.parent, device="cpu")


def check(base: LoadedBase, folders: dict[str, Path]) -> tuple[LoraCheck, PeftEngine]:
    engine = PeftEngine(base)
    return CheckLoraAdapters(SafetensorsLoraInspector(base), engine)(folders), engine


def said(engine: PeftEngine, names: tuple[str | None, ...]) -> list[str]:
    requests = [GenerationRequest(as_chat(prompt), name) for prompt in PROMPTS for name in names]
    found = dict(engine.generate(requests, SHORT))
    texts = []
    for index in range(len(requests)):
        answer = found[index]
        assert isinstance(answer, Generation), answer
        texts.append(answer.text)
    return texts


Change = Callable[[Path], Any]
SOUND: dict[str, Change] = {
    "null patterns": lambda folder: edit_config(folder, rank_pattern=None, alpha_pattern=None, modules_to_save=None),
    "bias without biases": lambda folder: edit_config(folder, bias="lora_only"),
    "keys of a later version": lambda folder: edit_config(folder, novelty=0.5, peft_version="9.9", other=None),
    "modules that are left out": lambda folder: edit_config(
        folder, target_modules=["q_proj", "k_proj", "down_proj"], exclude_modules=["k_proj"]
    ),
    "a harmless pattern": lambda folder: edit_config(folder, target_modules=r".*\.(q_proj|down_proj)$"),
    "alphas by pattern": lambda folder: edit_config(folder, alpha_pattern={r"layers\.0\..*q_proj": 4}),
    "a quantised twin": lambda folder: (
        edit_weights(folder, lambda tensors: tensors),
        edit_config(folder, base_model_name_or_path="unsloth/base-unsloth-bnb-4bit"),
    ),
    "files that are links": lambda folder: [
        ((folder / name).rename(folder / f"real-{name}"), (folder / name).symlink_to(f"real-{name}"))
        for name in ("adapter_model.safetensors", "adapter_config.json")
    ],
}


@pytest.mark.parametrize("name", SOUND)
def test_odd_folders_that_are_sound_answer(base: LoadedBase, folders: dict[str, Path], name: str) -> None:
    SOUND[name](folders["A"])
    report, engine = check(base, folders)
    assert [each.problems for each in report.diagnoses] == [(), (), ()]
    assert len(set(said(engine, (None, "A", "B", "lora_A"))[:4])) == 4


def test_warnings_say_what_is_odd(base: LoadedBase, folders: dict[str, Path]) -> None:
    SOUND["keys of a later version"](folders["A"])
    SOUND["a quantised twin"](folders["B"])
    report, _ = check(base, folders)
    assert report.diagnoses[0].warnings == ("keys of its configuration that are not used: novelty",)
    assert report.diagnoses[1].warnings[0].startswith("made for unsloth/base-unsloth-bnb-4bit, loaded is ")


def test_the_newest_checkpoint_one_folder_down_is_taken(base: LoadedBase, folders: dict[str, Path]) -> None:
    expected = said(check(base, folders)[1], ("A",))
    run = folders["A"].parent / "run"
    for step, source in ((90, "B"), (500, "A")):
        shutil.copytree(folders[source], run / f"checkpoint-{step}")
    fresh = load_base(base.info.name, cache_dir=run, device="cpu")
    report, engine = check(fresh, {"A": run})
    assert report.diagnoses[0].warnings == ("its newest checkpoint is used: checkpoint-500",)
    assert said(engine, ("A",)) == expected


def _link_out(folder: Path) -> None:
    (folder.parent / "secret").write_text("a secret")
    (folder / "system_prompt.txt").symlink_to(folder.parent / "secret")


def _sparse(name: str, size: int) -> Change:
    def make(folder: Path) -> None:
        with (folder / name).open("wb") as file:
            file.truncate(size)

    return make


def _fifo(folder: Path) -> None:
    (folder / "adapter_config.json").unlink()
    os.mkfifo(folder / "adapter_config.json")


def _raw(text: str) -> Change:
    def change(folder: Path) -> None:
        path = folder / "adapter_config.json"
        path.write_text(path.read_text().rstrip()[:-1] + "," + text + "}")

    return change


def _bias(folder: Path) -> None:
    path = folder / "adapter_model.safetensors"
    tensors = load_file(path)
    key = "base_model.model.model.layers.0.self_attn.q_proj.bias"
    save_file({**tensors, key: torch.ones(32)}, path)


HOSTILE: dict[str, tuple[Change, str]] = {
    "a link out of the folder": (_link_out, "is a link out of the folder"),
    "a link to a device": (
        lambda folder: (folder / "system_prompt.txt").symlink_to("/dev/zero"),
        "is a link out of the folder",
    ),
    "a link in a circle": (
        lambda folder: (folder / "system_prompt.txt").symlink_to("system_prompt.txt"),
        "system_prompt.txt",
    ),
    "a pipe": (_fifo, "adapter_config.json is not a regular file"),
    "a system prompt of 200 MB": (_sparse("system_prompt.txt", 200 << 20), "more than 262,144"),
    "a configuration of 40 MB": (_sparse("adapter_config.json", 40 << 20), "more than 1,048,576"),
    "weights of 40 GB": (_sparse("adapter_model.safetensors", 40 << 30), "bytes, more than"),
    "a pattern that never ends": (
        lambda folder: edit_config(folder, target_modules="(.+)" * 10 + r"\9\8\7\6\5"),
        "takes too long to match",
    ),
    "a pattern of nothing": (
        lambda folder: edit_config(folder, target_modules="(([a-z._0-9])+)+[A-Z]Q"),
        "have weights that its configuration does not name",
    ),
    "a broken pattern": (lambda folder: edit_config(folder, target_modules="(q_proj"), "is not a pattern"),
    "KaSA": (_raw('"kasa_config":{"beta":0.0001}'), "it uses kasa_config"),
    "Arrow": (_raw('"arrow_config":{"top_k":2}'), "it uses arrow_config"),
    "blocks that are repeated": (_raw('"layer_replication":[[0,2],[1,3]]'), "it repeats blocks of the base model"),
    "an activated LoRA": (_raw('"alora_invocation_tokens":[7,8]'), "it is an activated LoRA: it acts only after"),
    "parameters of experts": (_raw('"target_parameters":["experts.down"]'), "it changes single parameters"),
    "a switch that nobody knows": (_raw('"use_novelty":true'), "it uses use_novelty"),
    "deep JSON": (_raw('"zz":' + "[" * 1010 + "]" * 1010), "it uses zz"),
    "deeper JSON": (_raw('"zz":' + "[" * 5000 + "]" * 5000), "is damaged"),
    "patterns in a list": (_raw('"alpha_pattern":["q_proj"]'), "alpha_pattern is not an object"),
    "alpha as text": (_raw('"lora_alpha":"8"'), "lora_alpha is '8', not a number"),
    "biases": (_bias, "not LoRA matrices that this version can load"),
    "all layers": (lambda folder: edit_config(folder, target_modules="all-linear"), "have no weights"),
    "another tokenizer": (
        lambda folder: _tokenizer(200).save_pretrained(folder),
        "tokens that the base model does not know",
    ),
    "a broken tokenizer": (
        lambda folder: (folder / "tokenizer.json").write_text("{}"),
        "its tokenizer cannot be loaded",
    ),
}


def _tokenizer(more: int = 0) -> Any:
    tokenizer = tiny_tokenizer()
    tokenizer.add_tokens([f"<|{number}|>" for number in range(more)])
    return tokenizer


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_folder_is_refused_alone(base: LoadedBase, folders: dict[str, Path], name: str) -> None:
    change, message = HOSTILE[name]
    change(folders["B"])
    report, engine = check(base, folders)
    assert [each.sound for each in report.diagnoses] == [True, False, True]
    assert message in report.diagnoses[1].problems[0]
    assert engine.adapters == ("A", "lora_A")


def test_names_with_a_meaning_and_names_that_no_adapter_can_have(base: LoadedBase, folders: dict[str, Path]) -> None:
    report, _ = check(base, {"none": folders["A"], "v1.2": folders["B"], "B": folders["B"]})
    assert [each.sound for each in report.diagnoses] == [False, False, True]
    assert "means something else" in report.diagnoses[0].problems[0]
    assert "is not allowed" in report.diagnoses[1].problems[0]


def test_an_adapters_own_chat_template_is_used(base: LoadedBase, folders: dict[str, Path]) -> None:
    plain = said(check(base, folders)[1], ("A", "B"))
    (folders["A"] / "chat_template.jinja").write_text("{{ messages[0]['content'] }} =>")
    fresh = load_base(base.info.name, cache_dir=folders["A"], device="cpu")
    report, engine = check(fresh, folders)
    assert report.diagnoses[0].warnings == ("it answers with its own chat template",)
    own = said(engine, ("A", "B"))
    assert own[0] != plain[0]
    assert own[1] == plain[1]


def test_an_adapters_own_tokenizer_is_used_and_the_bases_own_is_no_news(
    base: LoadedBase, folders: dict[str, Path]
) -> None:
    _tokenizer().save_pretrained(folders["B"])
    tokenizer = json.loads(_tokenizer().backend_tokenizer.to_str())
    other = _tokenizer()
    words = sorted(tokenizer["model"]["vocab"], key=tokenizer["model"]["vocab"].get)
    swapped = {**tokenizer["model"]["vocab"], words[40]: 41, words[41]: 40}
    from tokenizers import Tokenizer

    tokenizer["model"]["vocab"] = swapped
    other._tokenizer = Tokenizer.from_str(json.dumps(tokenizer))
    other.save_pretrained(folders["A"])
    report, _ = check(base, folders)
    assert report.diagnoses[0].warnings == ("it answers with its own tokenizer",)
    assert report.diagnoses[1].warnings == ()


def test_a_system_prompt_that_the_template_refuses_is_found_by_the_check(tmp_path: Path, tiny_base: Path) -> None:
    folder = tmp_path / "base"
    shutil.copytree(tiny_base, folder)
    template = folder / "chat_template.jinja"
    template.write_text(
        "{% if messages[0]['role'] == 'system' %}{{ raise_exception('no system role') }}{% endif %}"
        + template.read_text()
    )
    base = load_base(str(folder), cache_dir=tmp_path, device="cpu")
    folders = write_loras(base, tmp_path / "loras", ("A", "B"), systems={"B": "You are terse."})
    report, _ = check(base, folders)
    assert [each.sound for each in report.diagnoses] == [True, False]
    assert "no system role" in report.diagnoses[1].problems[0]


def test_weights_are_told_apart(base: LoadedBase, folders: dict[str, Path]) -> None:
    report, _ = check(base, folders)
    assert len(set(report.weights.values())) == 3
    edit_weights(folders["A"], lambda tensors: {name: value * 1.01 for name, value in tensors.items()})
    later = SafetensorsLoraInspector(base).inspect(folders["A"])
    assert later.sha256 != report.weights["A"]


def test_a_base_model_that_changes_is_noticed(base: LoadedBase) -> None:
    watch = BaseWatch.of(base.model)
    assert watch.changed(base.model) is None
    weight = base.model.model.layers[1].self_attn.q_proj.weight
    with torch.no_grad():
        weight[0, 0] += 1e-3
    assert watch.changed(base.model) == "model.layers.1.self_attn.q_proj.weight"
