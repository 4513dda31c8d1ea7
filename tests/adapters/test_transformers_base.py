"""Loading base models: kinds, refusals in one clear line, fingerprints."""

from __future__ import annotations

import pickle
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import orjson
import pytest
import torch
from safetensors.torch import load_file, save_file

import adapters.base_model.hub_snapshot as hub
from adapters.base_model.transformers_base import load_base
from domain.errors import DataRejectedError, MissingFileError, MoeRouterError, UsageError
from tests.tiny_models import tiny_model


@pytest.fixture
def folder(tiny_base: Path, tmp_path: Path) -> Path:
    """A copy of the tiny model to do things to."""
    return Path(shutil.copytree(tiny_base, tmp_path / "model"))


def fingerprint(folder: Path) -> str:
    return load_base(str(folder), cache_dir=folder, device="cpu").info.fingerprint


def refusal(folder: Path | str, kind: type[MoeRouterError]) -> str:
    with pytest.raises(kind) as caught:
        load_base(str(folder), cache_dir=Path("/nonexistent"), device="cpu")
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_causal_model_is_frozen_and_can_generate(folder: Path) -> None:
    base = load_base(str(folder), cache_dir=folder, device="cpu")
    assert (base.kind, base.is_whole, base.info.n_layers, base.info.hidden_size) == ("causal", True, 4, 32)
    assert base.info.name == str(folder)
    assert not base.model.training
    assert not any(parameter.requires_grad for parameter in base.model.parameters())
    assert base.model.dtype == torch.float32
    assert base.device.type == "cpu"
    tokens = base.tokenizer("hello", return_tensors="pt")["input_ids"]
    assert base.model.generate(input_ids=tokens, max_new_tokens=3, min_new_tokens=3).shape[1] == tokens.shape[1] + 3


@pytest.mark.parametrize(("kind", "expected"), [("bert", "encoder"), ("qwen3-vl", "vision-language")])
def test_other_kinds(tmp_path: Path, kind: str, expected: str) -> None:
    base = load_base(str(tiny_model(tmp_path / kind, kind)), cache_dir=tmp_path, device="cpu")
    assert base.kind == expected
    assert len(base.blocks) == 4
    assert not any("visual" in name for name, _ in base.text_tower.named_modules())


def test_a_decoder_saved_without_its_head_counts_as_encoder(folder: Path) -> None:
    from transformers import AutoModel

    whole = fingerprint(folder)
    AutoModel.from_pretrained(folder).save_pretrained(folder)
    base = load_base(str(folder), cache_dir=folder, device="cpu")
    assert base.kind == "encoder"  # never a random head
    assert base.info.fingerprint != whole  # other tensor names: nobody claims that they are the same


def test_loading_without_upper_layers_reads_no_upper_tensor(folder: Path) -> None:
    whole = load_base(str(folder), cache_dir=folder, device="cpu")
    cut = load_base(str(folder), cache_dir=folder, device="cpu", max_layer=2)
    assert not cut.is_whole
    assert cut.info == whole.info
    names = [name for name, _ in cut.model.named_parameters()]
    assert not any("lm_head" in name or "layers.2" in name or "layers.3" in name for name in names)
    assert load_base(str(folder), cache_dir=folder, device="cpu", max_layer=4).is_whole
    half = load_base(str(folder), cache_dir=folder, device="cpu", max_layer=lambda n_layers: n_layers // 2)
    assert len(half.blocks) == 2


def test_a_vision_language_model_loaded_for_routing_has_no_vision_tower(tmp_path: Path) -> None:
    folder = tiny_model(tmp_path / "vl", "qwen3-vl")
    cut = load_base(str(folder), cache_dir=folder, device="cpu", max_layer=2)
    names = {name for name, _ in cut.model.named_parameters()}
    assert {name.split(".")[0] for name in names} == {"embed_tokens", "layers", "norm"}


@pytest.mark.parametrize("layer", [-1, 5])
def test_a_layer_outside_the_model_is_a_usage_error(folder: Path, layer: int) -> None:
    with pytest.raises(UsageError, match=f"layer {layer} is not in 0..4"):
        load_base(str(folder), cache_dir=folder, device="cpu", max_layer=layer)


def test_an_unknown_device_is_a_usage_error(folder: Path) -> None:
    for device in ("cuda:77", "toaster"):
        with pytest.raises(UsageError, match=f"device '{device}' is not available"):
            load_base(str(folder), cache_dir=folder, device=device)


def test_pickled_weights_are_refused_and_never_opened(folder: Path, tmp_path: Path) -> None:
    canary = tmp_path / "canary"

    class Bomb:
        def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...]]:
            return (Path.touch, (canary,))

    (folder / "model.safetensors").unlink()
    (folder / "pytorch_model.bin").write_bytes(pickle.dumps(Bomb()))
    assert "only pytorch_model.bin" in refusal(folder, DataRejectedError)
    (folder / "pytorch_model.bin").rename(folder / "model.safetensors")  # by content, not by suffix
    assert "not a readable safetensors file" in refusal(folder, DataRejectedError)
    assert not canary.exists()


def cut_weights(folder: Path) -> None:
    data = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(data[: len(data) // 2])


def drop_tensor(folder: Path) -> None:
    tensors = load_file(folder / "model.safetensors")
    del tensors["model.layers.1.mlp.up_proj.weight"]
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})


def lose_shard(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    index = {"weight_map": {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}}
    (folder / "model.safetensors.index.json").write_bytes(orjson.dumps(index))


def edit_config(folder: Path, **values: object) -> None:
    config = orjson.loads((folder / "config.json").read_bytes())
    (folder / "config.json").write_bytes(orjson.dumps({**config, **values}))


BROKEN: dict[str, tuple[Callable[[Path], object], str]] = {
    "half the weights": (cut_weights, "not a readable safetensors file"),
    "a tensor missing": (drop_tensor, "1 tensors are missing"),
    "a shard missing": (lose_shard, "2 of 2 weight files missing"),
    "no weights": (lambda folder: (folder / "model.safetensors").unlink(), "no weights at all"),
    "config is no JSON": (lambda folder: (folder / "config.json").write_text("{"), "cannot load"),
    "no config": (lambda folder: (folder / "config.json").unlink(), "has no config.json"),
    "no tokenizer": (lambda folder: [p.unlink() for p in folder.glob("token*")], "it has no tokenizer"),
    "unknown architecture": (lambda folder: edit_config(folder, model_type="novel"), "cannot load"),
    "its own code": (
        lambda folder: edit_config(folder, model_type="novel", auto_map={"AutoConfig": "code.Config"}),
        "cannot load",
    ),
    "other width": (lambda folder: edit_config(folder, hidden_size=64, head_dim=16), "cannot load"),
    "a LoRA adapter": (lambda folder: (folder / "adapter_config.json").write_text("{}"), "is a LoRA adapter"),
    "encoder-decoder": (
        lambda folder: edit_config(folder, model_type="t5", architectures=["T5ForConditionalGeneration"]),
        "encoder-decoder",
    ),
}


@pytest.mark.parametrize(("damage", "message"), BROKEN.values(), ids=BROKEN.keys())
def test_a_broken_folder_is_refused_in_one_line(folder: Path, damage: Callable[[Path], object], message: str) -> None:
    damage(folder)
    text = refusal(folder, DataRejectedError)
    assert message in text
    assert str(folder) in text


@pytest.mark.parametrize("name", ["./not/here", "/not/here", "~/not-here", "a/b/c"])
def test_a_missing_folder_is_named(name: str) -> None:
    assert name in refusal(name, MissingFileError)


def test_a_file_and_nonsense_are_usage_errors(folder: Path) -> None:
    assert "is a file" in refusal(folder / "config.json", UsageError)
    assert "neither a folder nor a hub id" in refusal("no such model!", UsageError)


def test_a_folder_causes_no_network_request(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tried: list[object] = []
    for place, name in ((socket.socket, "connect"), (socket, "getaddrinfo"), (socket, "create_connection")):
        monkeypatch.setattr(place, name, lambda *address, **_: tried.append(address))
    base = load_base(str(folder), cache_dir=folder, device="cpu")
    assert base.tokenizer.chat_template
    assert tried == []


def test_a_hub_id_without_network_is_one_clear_line(tmp_path: Path) -> None:
    """In a fresh process, as huggingface_hub reads its settings when imported; every socket fails there."""
    program = (
        "import socket\n"
        "def refused(*_): raise OSError('network is unreachable')\n"
        "socket.socket.connect = socket.getaddrinfo = refused\n"
        "from adapters.base_model.hub_snapshot import model_folder\n"
        "from domain.errors import RemoteError\n"
        "try: model_folder('somebody/some-model')\n"
        "except RemoteError as error: print(error)\n"
    )
    environment = {"HF_HOME": str(tmp_path), "PYTHONPATH": ":".join(sys.path)}
    done = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout.startswith(
        "base model somebody/some-model: the hub cannot be reached (check the network, or name a"
    )
    assert done.stdout.count("\n") == 1


def test_a_hub_id_asks_only_for_safetensors_and_text(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: dict[str, object] = {}

    def fake(hub_id: str, **options: object) -> str:
        asked.update(options, id=hub_id)
        return str(folder)

    monkeypatch.setattr(hub, "snapshot_download", fake)
    base = load_base("somebody/some-model", cache_dir=folder, device="cpu")
    assert base.info.name == asked["id"] == "somebody/some-model"
    assert not any(str(pattern).endswith((".bin", ".py", ".pt")) for pattern in asked["allow_patterns"])  # type: ignore[attr-defined]


def test_fingerprint_does_not_depend_on_where_or_how_it_lies(folder: Path, tiny_base: Path) -> None:
    from transformers import AutoModelForCausalLM

    expected = fingerprint(tiny_base)
    assert fingerprint(folder) == expected
    AutoModelForCausalLM.from_pretrained(folder).save_pretrained(folder / "sharded", max_shard_size="30KB")
    for path in folder.glob("token*"):
        shutil.copy2(path, folder / "sharded")
    shutil.copy2(folder / "chat_template.jinja", folder / "sharded")
    assert (folder / "sharded/model.safetensors.index.json").is_file()
    assert fingerprint(folder / "sharded") == expected
    edit_config(folder, transformers_version="0.0.1", use_cache=False, _name_or_path="elsewhere")
    assert fingerprint(folder) == expected


def change(folder: Path, name: str) -> None:
    tensors = load_file(folder / "model.safetensors")
    tensors[name].view(-1)[-1] += 0.5
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})


def drop_merges(folder: Path) -> None:
    tokenizer = orjson.loads((folder / "tokenizer.json").read_bytes())
    tokenizer["model"]["merges"] = tokenizer["model"]["merges"][:5]
    (folder / "tokenizer.json").write_bytes(orjson.dumps(tokenizer))


CHANGES: dict[str, Callable[[Path], object]] = {
    "embedding": lambda folder: change(folder, "model.embed_tokens.weight"),
    "first block": lambda folder: change(folder, "model.layers.0.self_attn.q_proj.weight"),
    "last block": lambda folder: change(folder, "model.layers.3.mlp.down_proj.weight"),
    "final norm": lambda folder: change(folder, "model.norm.weight"),
    "rope": lambda folder: edit_config(folder, rope_parameters={"rope_type": "default", "rope_theta": 77.0}),
    "norm epsilon": lambda folder: edit_config(folder, rms_norm_eps=0.01),
    "tokenizer": drop_merges,
}


@pytest.mark.parametrize("alter", CHANGES.values(), ids=CHANGES.keys())
def test_fingerprint_changes_with_what_decides_features(
    folder: Path, tiny_base: Path, alter: Callable[[Path], object]
) -> None:
    alter(folder)
    assert fingerprint(folder) != fingerprint(tiny_base)


def test_fingerprint_samples_large_tensors_from_end_to_end(folder: Path) -> None:
    """A tensor above 64 KiB is sampled; its first and last bytes are always among the samples."""
    seen = set()
    for index in (0, -1):
        tensors = {"big": torch.zeros(100_000)}
        tensors["big"][index] = 1.0
        save_file({**load_file(folder / "model.safetensors"), **tensors}, folder / "big.safetensors")
        shutil.copytree(folder, folder / f"copy{index}", ignore=shutil.ignore_patterns("copy*"))
        (folder / f"copy{index}/big.safetensors").rename(folder / f"copy{index}/model.safetensors")
        seen.add(fingerprint(folder / f"copy{index}"))
    assert len(seen) == 2
