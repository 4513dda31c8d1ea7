"""The router sees the base model's states whatever LoRA adapters are attached, and leaves them as they were."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from adapters.base_model.transformers_base import LoadedBase, load_base
from adapters.base_model.transformers_features import TransformersFeatureExtractor
from domain.errors import UsageError
from domain.features import FeatureTap, Pooling

TEXTS = ["Book a table", "File a claim for the window", "a"]
TAPS = [FeatureTap(layer, Pooling.MEAN) for layer in range(5)]


@pytest.fixture
def base(tiny_base: Path) -> LoadedBase:
    return load_base(str(tiny_base), cache_dir=tiny_base.parent, device="cpu")


def attach(base: LoadedBase, **options: Any) -> Any:
    """Inject two LoRA adapters with an effect into the base model; "second" is active."""
    from peft import LoraConfig, get_peft_model

    config = LoraConfig(
        r=4, target_modules=["q_proj", "down_proj"], init_lora_weights=False, lora_dropout=0.5, **options
    )
    torch.manual_seed(0)
    model = get_peft_model(base.model, config, adapter_name="first")
    model.add_adapter("second", config)
    model.set_adapter("second")
    return model


def state(model: Any) -> list[tuple[str, bool, bool, Any]]:
    flags = [
        (name, module.training, getattr(module, "_disable_adapters", False), getattr(module, "_active_adapter", None))
        for name, module in model.named_modules()
    ]
    return flags + [(name, parameter.requires_grad, False, None) for name, parameter in model.named_parameters()]


@pytest.mark.parametrize("options", [{}, {"modules_to_save": ["norm"]}])
@pytest.mark.parametrize("training", [False, True])
def test_features_are_the_bases_while_an_adapter_is_active(base: LoadedBase, training: bool, options: Any) -> None:
    bare = TransformersFeatureExtractor(base).extract(TEXTS, TAPS)
    model = attach(base, **options)
    if options:
        with torch.no_grad():
            model.get_decoder().norm.modules_to_save["second"].weight.add_(1.0)
    model.train(training)
    tokens = base.tokenizer(TEXTS[0], return_tensors="pt")["input_ids"]
    before = state(model)
    torch.manual_seed(1)
    answer = model(input_ids=tokens).logits
    features = TransformersFeatureExtractor(base).extract(TEXTS, TAPS)
    np.testing.assert_array_equal(features, bare)
    assert state(model) == before
    torch.manual_seed(1)
    assert torch.equal(model(input_ids=tokens).logits, answer)
    with model.disable_adapter():
        assert not torch.allclose(model.eval()(input_ids=tokens).logits, answer)  # the adapter did have an effect


def test_an_extractor_made_after_the_adapters_gives_the_same(base: LoadedBase, tiny_base: Path) -> None:
    attach(base)
    fresh = load_base(str(tiny_base), cache_dir=tiny_base.parent, device="cpu")
    np.testing.assert_array_equal(
        TransformersFeatureExtractor(base).extract(TEXTS, TAPS),
        TransformersFeatureExtractor(fresh).extract(TEXTS, TAPS),
    )


def test_adapters_that_were_disabled_stay_disabled(base: LoadedBase) -> None:
    model = attach(base)
    with model.disable_adapter():
        before = state(model)
        TransformersFeatureExtractor(base).extract(TEXTS, TAPS)
        assert state(model) == before


def test_all_is_restored_after_an_error(base: LoadedBase) -> None:
    model = attach(base)
    before = state(model)
    handle = base.blocks[1].register_forward_hook(lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        TransformersFeatureExtractor(base).extract(TEXTS, TAPS)
    handle.remove()
    assert state(model) == before
    hooks = [len(block._forward_hooks) + len(block._forward_pre_hooks) for block in base.blocks]
    assert hooks == [0] * len(base.blocks)


def test_a_merged_adapter_is_refused(base: LoadedBase) -> None:
    model = attach(base)
    model.merge_adapter()
    with pytest.raises(UsageError, match="merged"):
        TransformersFeatureExtractor(base).extract(TEXTS, TAPS)
    model.unmerge_adapter()
    assert len(TransformersFeatureExtractor(base).extract(TEXTS, TAPS)) == 3


def test_gradients_still_flow_through_the_adapter_afterwards(base: LoadedBase) -> None:
    model = attach(base)
    TransformersFeatureExtractor(base).extract(TEXTS, TAPS)
    tokens = base.tokenizer(TEXTS[0], return_tensors="pt")["input_ids"]
    model(input_ids=tokens, labels=tokens).loss.backward()
    assert any(p.grad is not None and p.grad.abs().max() > 0 for n, p in model.named_parameters() if "second" in n)
