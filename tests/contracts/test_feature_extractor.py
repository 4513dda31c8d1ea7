"""The contract of FeatureExtractor, over every implementation."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from adapters.base_model.feature_cache import CachedFeatureExtractor
from adapters.in_memory.features import InMemoryFeatureExtractor
from application.ports import FeatureExtractor
from domain.errors import UsageError
from domain.features import FeatureTap, Pooling

TEXTS = [
    "Book a table for two on Friday",
    "Zeige mir die Quittung für Straße 7",
    "short",
    "file a claim for the broken window in the kitchen, the one next to the old door",
    "予定を確認して 🙂",
    "a",
]
TOLERANCE = 1e-4  # of the largest value: float32 sums come in another order in another batch

Factory = Callable[..., FeatureExtractor]


@pytest.fixture(scope="module", params=["in-memory", "transformers", "cached", "onnx"])
def make(request: pytest.FixtureRequest, tiny_base: Path, tmp_path_factory: pytest.TempPathFactory) -> Factory:
    """Return a factory `make(max_tokens=…)` of the implementation under test."""
    if request.param == "in-memory":
        return InMemoryFeatureExtractor
    if request.param == "cached":  # one folder for all tests, so that later ones find it warm
        folder = tmp_path_factory.mktemp("features")
        return lambda **options: CachedFeatureExtractor(InMemoryFeatureExtractor(**options), folder)
    from adapters.base_model.transformers_base import load_base
    from adapters.base_model.transformers_features import TransformersFeatureExtractor

    base = load_base(str(tiny_base), cache_dir=tiny_base, device="cpu")
    if request.param == "transformers":
        return partial(TransformersFeatureExtractor, base)
    from adapters.trunk.onnx_features import OnnxFeatureExtractor
    from adapters.trunk.trunk_export import write_trunk

    folder = tmp_path_factory.mktemp("trunk")
    write_trunk(folder, base, TransformersFeatureExtractor(base), base.info.n_layers)
    return partial(OnnxFeatureExtractor, folder)


def taps_of(extractor: FeatureExtractor) -> list[FeatureTap]:
    last = extractor.base.n_layers
    return [FeatureTap(last, Pooling.MEAN), FeatureTap(0, Pooling.LAST), FeatureTap(1, Pooling.MEAN)]


def assert_same(left: np.ndarray, right: np.ndarray) -> None:
    np.testing.assert_allclose(left, right, rtol=0, atol=TOLERANCE * float(np.abs(right).max()))


def test_shape_type_and_finiteness(make: Factory) -> None:
    extractor = make()
    features = extractor.extract(TEXTS, taps_of(extractor))
    assert features.shape == (len(TEXTS), 3 * extractor.base.hidden_size)
    assert features.dtype == np.float32
    assert np.isfinite(features).all()


def test_row_belongs_to_its_text_in_any_order_and_company(make: Factory) -> None:
    extractor = make()
    taps = taps_of(extractor)
    together = extractor.extract(TEXTS, taps)
    for index, text in enumerate(TEXTS):
        assert_same(make().extract([text], taps)[0], together[index])
    order = [3, 0, 5, 1, 4, 2]
    assert_same(make().extract([TEXTS[i] for i in order], taps), together[order])


def test_batches_can_be_shared_without_changing_a_bit(make: Factory) -> None:
    extractor = make()
    texts = [f"{text} {number}" for number in range(20) for text in (*TEXTS, TEXTS[2])]
    taps = taps_of(extractor)
    batches = extractor.batches(texts)
    assert sorted(text for batch in batches for text in batch) == sorted(set(texts))
    assert len(batches) > 2
    whole = dict(zip(texts, extractor.extract(texts, taps), strict=True))
    for share in range(2):
        mine = [text for batch in batches[share::2] for text in batch]
        np.testing.assert_array_equal(make().extract(mine, taps), np.stack([whole[text] for text in mine]))
    assert extractor.batches([]) == []


def test_different_texts_have_different_rows(make: Factory) -> None:
    extractor = make()
    features = extractor.extract(TEXTS, taps_of(extractor))
    assert len(np.unique(features.round(4), axis=0)) == len(TEXTS)


def test_duplicates_get_the_same_row(make: Factory) -> None:
    extractor = make()
    features = extractor.extract(["one two", "three", "one two"], taps_of(extractor))
    np.testing.assert_array_equal(features[0], features[2])


def test_columns_follow_the_taps_in_the_order_given(make: Factory) -> None:
    extractor = make()
    taps = taps_of(extractor)
    size = extractor.base.hidden_size
    whole = extractor.extract(TEXTS, taps)
    for position, tap in enumerate(taps):
        assert_same(extractor.extract(TEXTS, [tap]), whole[:, position * size : (position + 1) * size])
    twice = extractor.extract(TEXTS, [taps[1], taps[1]])
    np.testing.assert_array_equal(twice[:, :size], twice[:, size:])


def test_layers_and_poolings_differ(make: Factory) -> None:
    extractor = make()
    every = [FeatureTap(layer, pooling) for layer in range(extractor.base.n_layers + 1) for pooling in Pooling]
    features = extractor.extract(["several words in a row"], every).reshape(len(every), -1)
    assert len(np.unique(features.round(5), axis=0)) == len(every)


@pytest.mark.parametrize("text", ["", " ", "\n\t", "\x00", "\ud800"])
def test_text_without_words_still_gets_a_finite_row(make: Factory, text: str) -> None:
    extractor = make()
    features = extractor.extract([text, "word"], taps_of(extractor))
    assert features.shape[0] == 2
    assert np.isfinite(features).all()
    assert np.abs(features[0]).max() > 0


def test_only_the_first_tokens_count(make: Factory) -> None:
    extractor = make(max_tokens=4)
    assert extractor.max_tokens == 4
    taps = taps_of(extractor)
    beginning = "one two three four five six seven eight nine ten"
    features = extractor.extract([beginning, beginning + " and much more of it"], taps)
    assert_same(features[0], features[1])
    assert np.abs(make().extract([beginning], taps) - features[:1]).max() > TOLERANCE


def test_no_texts_and_no_taps(make: Factory) -> None:
    extractor = make()
    taps = taps_of(extractor)
    assert extractor.extract([], taps).shape == (0, 3 * extractor.base.hidden_size)
    assert extractor.extract(TEXTS, []).shape == (len(TEXTS), 0)


@pytest.mark.parametrize("beyond", [-1, 1])
def test_tap_outside_the_model_is_a_usage_error(make: Factory, beyond: int) -> None:
    extractor = make()
    layer = -1 if beyond < 0 else extractor.base.n_layers + 1
    with pytest.raises(UsageError, match=f"layer {layer}"):
        extractor.extract(["x"], [FeatureTap(layer, Pooling.MEAN)])
