"""Trunks: the same features as with torch, for each base model that can be written; damage, and other files."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from adapters.base_model.base_fingerprint import PROBES
from adapters.base_model.transformers_base import LoadedBase, load_base
from adapters.base_model.transformers_features import TransformersFeatureExtractor
from adapters.trunk import trunk_export
from adapters.trunk.onnx_features import OnnxFeatureExtractor
from adapters.trunk.trunk_export import TOLERANCE, export_trunk, write_trunk
from adapters.trunk.trunk_folder import GRAPH, NOTES, TOKENIZER, WEIGHTS, read_trunk
from application.ports import TrainedRouter
from domain.errors import DataRejectedError, MismatchError, MissingFileError, TargetExistsError, UsageError
from domain.features import FeatureTap, Pooling
from tests.answering_world import small_router
from tests.tiny_models import tiny_model

TEXTS = [*PROBES, "a", " ".join(PROBES) * 10]


def loaded(folder: Path, kind: str, depth: int | None = None, **sizes: object) -> LoadedBase:
    if not folder.exists():
        tiny_model(folder, kind, **sizes)
    return load_base(str(folder), cache_dir=folder, device="cpu", max_layer=depth)


def difference(base: LoadedBase, depth: int, folder: Path) -> float:
    """Write a trunk; return the largest difference of a feature, as a share of its vector's length."""
    reference = TransformersFeatureExtractor(base, max_tokens=64)
    folder.mkdir(exist_ok=True)
    write_trunk(folder, base, reference, depth)
    found = OnnxFeatureExtractor(folder, max_tokens=64, token_budget=256)
    taps = [FeatureTap(layer, pooling) for layer in range(depth + 1) for pooling in Pooling]
    mine, theirs = (each.extract(TEXTS, taps).reshape(len(TEXTS) * len(taps), -1) for each in (reference, found))
    return float((np.abs(mine - theirs).max(axis=1) / np.linalg.norm(mine, axis=1)).max())


@pytest.mark.parametrize(
    ("kind", "sizes"),
    [
        ("llama", {"attention_bias": True, "mlp_bias": True}),
        ("qwen3", {}),
        ("qwen3-vl", {}),
        ("bert", {}),
        ("bert", {"hidden_act": "gelu_new", "layer_norm_eps": 1e-3}),
    ],
)
def test_every_layer_is_that_of_the_base_model(tmp_path: Path, kind: str, sizes: dict[str, object]) -> None:
    for depth in (2, 4):  # inside the model, and the last with its norm
        assert difference(loaded(tmp_path / kind, kind, depth, **sizes), depth, tmp_path / "trunk") < TOLERANCE


def test_positions_of_roberta_start_after_its_padding(tmp_path: Path) -> None:
    import transformers as hf

    from tests.tiny_models import tiny_tokenizer

    sizes = {"vocab_size": 400, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2}
    config = hf.RobertaConfig(
        **sizes, num_attention_heads=4, max_position_embeddings=80, initializer_range=0.3, pad_token_id=0
    )
    hf.RobertaModel(config).save_pretrained(tmp_path / "base")
    tiny_tokenizer(bert=True).save_pretrained(tmp_path / "base")
    assert difference(loaded(tmp_path / "base", "roberta"), 2, tmp_path / "trunk") < TOLERANCE


def test_kinds_that_cannot_be_written_are_refused_and_leave_nothing(tmp_path: Path) -> None:
    base = loaded(tmp_path / "base", "gpt2")
    router = small_router(TransformersFeatureExtractor(base))
    with pytest.raises(DataRejectedError, match="kind 'gpt2' cannot be written as a trunk"):
        export_trunk(router, base, tmp_path / "trunk")
    assert not (tmp_path / "trunk").exists()


def test_a_model_that_computes_something_else_under_the_same_names_is_refused(tmp_path: Path) -> None:
    import transformers as hf

    from tests.tiny_models import tiny_tokenizer

    sizes = {"vocab_size": 400, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 3, "head_dim": 8}
    config = hf.GemmaConfig(**sizes, num_attention_heads=4, num_key_value_heads=2, hidden_activation="silu")
    config.hidden_act = "silu"
    hf.GemmaForCausalLM(config).save_pretrained(tmp_path / "base")  # its norms add 1 to their weights
    tiny_tokenizer().save_pretrained(tmp_path / "base")
    base = loaded(tmp_path / "base", "gemma")
    router = small_router(TransformersFeatureExtractor(base))
    with pytest.raises(DataRejectedError, match="computes other features"):
        export_trunk(router, base, tmp_path / "trunk")
    assert not (tmp_path / "trunk").exists()


def test_a_sliding_window_shorter_than_the_texts_is_noticed(tmp_path: Path) -> None:
    import transformers as hf

    from tests.tiny_models import tiny_tokenizer

    sizes = {"vocab_size": 400, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 3, "head_dim": 8}
    config = hf.MistralConfig(
        **sizes, num_attention_heads=4, num_key_value_heads=2, sliding_window=8, initializer_range=0.3
    )
    hf.MistralForCausalLM(config).save_pretrained(tmp_path / "base")
    tiny_tokenizer().save_pretrained(tmp_path / "base")
    base = loaded(tmp_path / "base", "mistral")
    with pytest.raises(DataRejectedError, match="computes other features"):
        export_trunk(small_router(TransformersFeatureExtractor(base)), base, tmp_path / "trunk")


@pytest.fixture(scope="module")
def exported(tiny_base: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, TrainedRouter, LoadedBase]:
    base = loaded(tiny_base, "llama")
    folder = tmp_path_factory.mktemp("exported") / "trunk"
    router = small_router(TransformersFeatureExtractor(base))
    proof = export_trunk(router, base, folder)
    assert proof.prompts > len(PROBES)
    assert proof.difference < TOLERANCE
    return folder, router, base


@pytest.fixture
def trunk(exported: tuple[Path, TrainedRouter, LoadedBase], tmp_path: Path) -> Path:
    return Path(shutil.copytree(exported[0], tmp_path / "trunk"))


def test_a_trunk_holds_the_router_and_the_blocks_that_it_reads_under_their_own_names(trunk: Path) -> None:
    from safetensors.numpy import load_file

    names = {path.name for path in trunk.iterdir()}
    assert names == {"model.safetensors", "config.json", "README.md", WEIGHTS, GRAPH, TOKENIZER, NOTES}
    assert len({path.stat().st_mode for path in trunk.iterdir()}) == 1
    notes, weights = read_trunk(trunk), load_file(trunk / WEIGHTS)
    assert weights["embed_tokens.weight"].shape == (400, notes.base.hidden_size)
    assert {name.split(".")[1] for name in weights if name.startswith("layers.")} == {*map(str, range(notes.depth))}


def test_an_earlier_trunk_is_replaced_and_nothing_else(exported, trunk: Path) -> None:
    (trunk / WEIGHTS).write_bytes(b"")
    export_trunk(*exported[1:], trunk)
    read_trunk(trunk)
    (trunk / "mine.txt").write_text("x")
    with pytest.raises(TargetExistsError, match=r"not part of a trunk: mine\.txt"):
        export_trunk(*exported[1:], trunk)


def test_layers_above_a_trunk_are_an_error_that_says_what_to_do(trunk: Path) -> None:
    deepest = read_trunk(trunk).depth
    with pytest.raises(UsageError, match=rf"layer {deepest + 1} is not in this trunk, only 0\.\.{deepest} .*export"):
        OnnxFeatureExtractor(trunk).extract(["x"], [FeatureTap(deepest + 1, Pooling.MEAN)])


@pytest.mark.parametrize("name", [WEIGHTS, GRAPH, TOKENIZER, NOTES])
def test_damaged_and_missing_files_are_refused(trunk: Path, name: str) -> None:
    content = bytearray((trunk / name).read_bytes())
    content[len(content) // 2] ^= 1
    (trunk / name).write_bytes(content if name != NOTES else b'{"format": 1}')
    with pytest.raises(DataRejectedError, match=rf"{name} is"):
        OnnxFeatureExtractor(trunk)
    (trunk / name).unlink()
    with pytest.raises(MissingFileError, match=rf"{name} is missing"):
        OnnxFeatureExtractor(trunk)


def test_other_decisions_are_refused(exported, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _, router, base = exported
    monkeypatch.setattr(trunk_export, "TOLERANCE", 9.0)
    noise = np.random.default_rng(0)

    def extract(self: OnnxFeatureExtractor, texts: list[str], taps: list[FeatureTap]) -> np.ndarray:
        return noise.normal(size=(len(texts), len(taps) * self.base.hidden_size)).astype(np.float32)

    monkeypatch.setattr(OnnxFeatureExtractor, "extract", extract)
    with pytest.raises(MismatchError, match=r"\d+ of \d+ decisions differ from those with torch"):
        export_trunk(router, base, tmp_path / "trunk")
    assert list(tmp_path.iterdir()) == []
