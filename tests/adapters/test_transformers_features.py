"""Features equal what the whole model gives, for every kind of base model."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch

from adapters.base_model.transformers_base import LoadedBase, load_base
from adapters.base_model.transformers_features import TransformersFeatureExtractor
from adapters.in_memory.runtime import CountedTask, RecordingProgressReporter
from domain.errors import DataRejectedError, UsageError
from domain.features import FeatureTap, Pooling
from tests.tiny_models import KINDS, tiny_model

TEXTS = [
    "Book a table",
    "a",
    "File a claim for the broken window in the kitchen, please, and for the door as well",
    "予定 🙂",
    "Which doctor takes my insurance?",
]
TOLERANCE = 1e-5  # of the largest value


@pytest.fixture(scope="module", params=KINDS)
def base(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> LoadedBase:
    folder = tiny_model(tmp_path_factory.mktemp("base") / request.param, request.param)
    return load_base(str(folder), cache_dir=folder.parent, device="cpu")


@pytest.fixture(scope="module")
def llama(tiny_base: Path) -> LoadedBase:
    return load_base(str(tiny_base), cache_dir=tiny_base.parent, device="cpu")


def every_tap(base: LoadedBase) -> list[FeatureTap]:
    return [FeatureTap(layer, pooling) for layer in range(base.info.n_layers + 1) for pooling in Pooling]


def reference(base: LoadedBase, text: str, taps: list[FeatureTap]) -> np.ndarray:
    """Return the features by the book: one text, no padding, transformers' own hidden states."""
    inputs = base.tokenizer(text, return_tensors="pt")
    inputs.pop("token_type_ids", None)
    with torch.no_grad():
        states = base.model(**inputs, output_hidden_states=True).hidden_states
    assert len(states) == base.info.n_layers + 1
    rows = [states[tap.layer][0] for tap in taps]
    pooled = [row.mean(0) if tap.pooling is Pooling.MEAN else row[-1] for tap, row in zip(taps, rows, strict=True)]
    return torch.cat(pooled).numpy()


def assert_close(left: np.ndarray, right: np.ndarray) -> None:
    np.testing.assert_allclose(left, right, rtol=0, atol=TOLERANCE * float(np.abs(right).max()))


def test_equal_to_the_whole_models_hidden_states(base: LoadedBase) -> None:
    taps = every_tap(base)
    features = TransformersFeatureExtractor(base).extract(TEXTS, taps)
    assert_close(features, np.stack([reference(base, text, taps) for text in TEXTS]))


@pytest.mark.parametrize("budget", [1, 24, 4096])
@pytest.mark.parametrize("side", ["left", "right"])
def test_neither_batch_size_nor_padding_side_matters(base: LoadedBase, budget: int, side: str) -> None:
    taps = every_tap(base)
    expected = TransformersFeatureExtractor(base).extract(TEXTS, taps)
    before = base.tokenizer.padding_side, base.tokenizer.truncation_side
    base.tokenizer.padding_side = base.tokenizer.truncation_side = side
    try:
        features = TransformersFeatureExtractor(base, token_budget=budget).extract(TEXTS, taps)
        short = TransformersFeatureExtractor(base, max_tokens=4).extract([TEXTS[2]], taps)
    finally:
        base.tokenizer.padding_side, base.tokenizer.truncation_side = before
    assert_close(features, expected)
    assert_close(short, TransformersFeatureExtractor(base, max_tokens=4).extract([TEXTS[2]], taps))


def test_upper_layers_do_not_run(base: LoadedBase) -> None:
    ran: list[int] = []
    handles = [
        block.register_forward_hook(lambda *_, index=index: ran.append(index))
        for index, block in enumerate(base.blocks)
    ]
    try:
        TransformersFeatureExtractor(base).extract(["x"], [FeatureTap(2, Pooling.MEAN), FeatureTap(1, Pooling.LAST)])
        assert ran == [0, 1]
        ran.clear()
        TransformersFeatureExtractor(base).extract(["x"], [FeatureTap(0, Pooling.MEAN)])
        assert ran == []
    finally:
        for handle in handles:
            handle.remove()


@pytest.mark.parametrize("max_layer", [0, 1, 3])
def test_a_model_loaded_without_upper_layers_gives_the_same_features(base: LoadedBase, max_layer: int) -> None:
    cut = load_base(str(base.folder), cache_dir=base.folder, device="cpu", max_layer=max_layer)
    assert len(cut.blocks) == max(1, max_layer)
    assert cut.info == base.info
    taps = [tap for tap in every_tap(base) if tap.layer <= max_layer]
    np.testing.assert_array_equal(
        TransformersFeatureExtractor(cut).extract(TEXTS, taps),
        TransformersFeatureExtractor(base).extract(TEXTS, taps),
    )
    with pytest.raises(UsageError, match=f"layer 4 is not loaded, only 0..{len(cut.blocks)}"):
        TransformersFeatureExtractor(cut).extract(TEXTS, [FeatureTap(4, Pooling.MEAN)])


def test_the_model_is_left_as_it_was(base: LoadedBase) -> None:
    hooks = [len(module._forward_hooks) + len(module._forward_pre_hooks) for module in base.model.modules()]
    base.text_tower.train()
    try:
        features = TransformersFeatureExtractor(base).extract(TEXTS, every_tap(base))
        assert all(module.training for module in base.text_tower.modules())
    finally:
        base.text_tower.eval()
    assert hooks == [len(module._forward_hooks) + len(module._forward_pre_hooks) for module in base.model.modules()]
    np.testing.assert_array_equal(features, TransformersFeatureExtractor(base).extract(TEXTS, every_tap(base)))


def test_each_distinct_text_is_encoded_once(llama: LoadedBase, monkeypatch: pytest.MonkeyPatch) -> None:
    rows: list[int] = []
    handle = llama.blocks[0].register_forward_pre_hook(lambda _block, args: rows.append(len(args[0])))
    try:
        features = TransformersFeatureExtractor(llama).extract(["a", "b c", "a", "a"], [FeatureTap(2, Pooling.MEAN)])
    finally:
        handle.remove()
    assert sum(rows) == 2
    np.testing.assert_array_equal(features[0], features[3])


def test_max_tokens_never_exceeds_the_models_positions(base: LoadedBase) -> None:
    extractor = TransformersFeatureExtractor(base, max_tokens=10_000)
    assert extractor.max_tokens == 256
    assert np.isfinite(extractor.extract(["word " * 2000], [FeatureTap(1, Pooling.LAST)])).all()


def test_progress_counts_every_distinct_text(llama: LoadedBase) -> None:
    progress = RecordingProgressReporter()
    extractor = TransformersFeatureExtractor(llama, token_budget=16, progress=progress)
    extractor.extract([f"text {index % 40}" for index in range(80)], [FeatureTap(1, Pooling.MEAN)])
    assert progress.tasks == [CountedTask("Encoding prompts", total=40, done=40)]


def test_a_value_that_is_not_finite_is_refused(tmp_path: Path) -> None:
    base = load_base(str(tiny_model(tmp_path / "base")), cache_dir=tmp_path, device="cpu")
    with torch.no_grad():
        base.blocks[1].mlp.down_proj.weight[0, 0] = float("nan")
    extractor = TransformersFeatureExtractor(base)
    assert np.isfinite(extractor.extract(["x"], [FeatureTap(1, Pooling.MEAN)])).all()
    with pytest.raises(DataRejectedError, match="not finite"):
        extractor.extract(["x"], [FeatureTap(2, Pooling.MEAN)])


def test_limits_below_one_are_usage_errors(llama: LoadedBase) -> None:
    with pytest.raises(UsageError, match="max-tokens 0"):
        TransformersFeatureExtractor(llama, max_tokens=0)
    with pytest.raises(UsageError, match="budget 0"):
        TransformersFeatureExtractor(llama, token_budget=0)


def test_threads_wait_for_each_other(llama: LoadedBase) -> None:
    extractor = TransformersFeatureExtractor(llama)
    shallow, deep = [FeatureTap(1, Pooling.MEAN)], [FeatureTap(4, Pooling.LAST)]
    expected = extractor.extract(TEXTS, shallow), extractor.extract(TEXTS, deep)
    with ThreadPoolExecutor(4) as pool:
        jobs = [pool.submit(extractor.extract, TEXTS, deep if index % 2 else shallow) for index in range(40)]
        for index, job in enumerate(jobs):
            np.testing.assert_array_equal(job.result(), expected[index % 2])


def test_the_tokenizer_is_left_as_it_was(tiny_base: Path) -> None:
    base = load_base(str(tiny_base), cache_dir=tiny_base.parent, device="cpu")
    base.tokenizer.truncation_side = "left"
    long = "word " * 300
    before = base.tokenizer(long)["input_ids"]
    TransformersFeatureExtractor(base, max_tokens=4).extract([long], [FeatureTap(1, Pooling.MEAN)])
    assert base.tokenizer.truncation_side == "left"
    assert base.tokenizer.backend_tokenizer.truncation is None
    assert base.tokenizer(long)["input_ids"] == before
