"""Base models with odd corners give right results, or one line that says what is wrong."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from adapters.base_model.transformers_base import LoadedBase, load_base
from adapters.base_model.transformers_features import TransformersFeatureExtractor
from adapters.lora.peft_engine import PeftEngine
from adapters.lora.row_batch import can_join
from application.ports.answering import Generation, GenerationRequest
from domain.answers import GenerationOptions
from domain.chats import as_chat
from domain.errors import DataRejectedError
from domain.features import FeatureTap, Pooling

TAPS = [FeatureTap(2, Pooling.MEAN)]
TEXTS = ["a", "File a claim for the broken window in the kitchen, please."]


@pytest.fixture
def base(tiny_base: Path) -> LoadedBase:
    return load_base(str(tiny_base), cache_dir=tiny_base.parent, device="cpu")


def answer(base: LoadedBase, text: str = "Book a table") -> Any:
    engine = PeftEngine(base)
    requests = [GenerationRequest(as_chat(each), None) for each in (text, "a")]
    return dict(engine.generate(requests, GenerationOptions(max_new_tokens=5)))[0]


def test_a_pad_token_outside_the_vocabulary_does_no_harm(base: LoadedBase, tiny_base: Path) -> None:
    expected = TransformersFeatureExtractor(base).extract(TEXTS, TAPS), answer(base)
    odd = load_base(str(tiny_base), cache_dir=tiny_base.parent, device="cpu")
    odd.tokenizer.add_tokens([f"<|{number}|>" for number in range(200)])
    odd.tokenizer.add_special_tokens({"pad_token": "[PAD]"})
    assert odd.tokenizer.pad_token_id >= odd.model.get_input_embeddings().weight.shape[0]
    np.testing.assert_array_equal(TransformersFeatureExtractor(odd).extract(TEXTS, TAPS), expected[0])
    assert answer(odd) == expected[1]


def test_a_base_without_a_tokenizer_says_so(tiny_base: Path, tmp_path: Path) -> None:
    shutil.copytree(tiny_base, tmp_path / "base")
    for path in (tmp_path / "base").glob("tokenizer*"):
        path.unlink()
    with pytest.raises(DataRejectedError, match=r"it has no tokenizer: tokenizer\.json is missing"):
        load_base(str(tmp_path / "base"), cache_dir=tmp_path, device="cpu")


@pytest.mark.parametrize("limit", [-1, 0])
def test_a_limit_of_positions_that_is_none(base: LoadedBase, limit: int) -> None:
    base.model.config.max_position_embeddings = limit
    base.text_tower.config.max_position_embeddings = limit  # type: ignore[union-attr]
    assert isinstance(answer(base, "a " * 300), Generation)
    assert TransformersFeatureExtractor(base, max_tokens=600).extract(TEXTS, TAPS).shape == (2, 32)


def test_blocks_that_give_lists(base: LoadedBase) -> None:
    expected = TransformersFeatureExtractor(base).extract(TEXTS, TAPS)
    hook = base.blocks[1].register_forward_hook(lambda _module, _args, output: [output])
    try:
        np.testing.assert_array_equal(TransformersFeatureExtractor(base).extract(TEXTS, TAPS), expected)
    finally:
        hook.remove()


def test_a_last_layer_of_another_width_is_one_line(base: LoadedBase) -> None:
    norm: Any = base.text_tower.norm
    hook = norm.register_forward_hook(lambda _module, _args, output: output[..., :16])
    try:
        with pytest.raises(DataRejectedError, match="layer 4 is 16 wide, the others 32"):
            TransformersFeatureExtractor(base).extract(TEXTS, [FeatureTap(4, Pooling.MEAN)])
    finally:
        hook.remove()


def test_a_memory_that_is_not_keys_and_values_only_cannot_be_joined(base: LoadedBase) -> None:
    assert can_join(base.model)
    from transformers import MambaConfig, MambaForCausalLM

    mamba = MambaForCausalLM(MambaConfig(vocab_size=50, hidden_size=16, num_hidden_layers=1, state_size=4))
    assert not can_join(mamba)
