"""What the in-memory features promise beyond the contract: similar texts are similar, and encoding is visible."""

from __future__ import annotations

import numpy as np
import pytest

from adapters.in_memory.features import InMemoryFeatureExtractor
from domain.features import FeatureTap, Pooling


def cosine(left: np.ndarray, right: np.ndarray) -> float:
    return float(left @ right / np.linalg.norm(left) / np.linalg.norm(right))


@pytest.mark.parametrize("pooling", list(Pooling))
@pytest.mark.parametrize("layer", range(5))
def test_similar_prompts_are_closer_than_others(layer: int, pooling: Pooling) -> None:
    texts = ["move my meeting to friday", "move the meetings to Friday", "the windscreen is broken"]
    a, b, c = InMemoryFeatureExtractor().extract(texts, [FeatureTap(layer, pooling)])
    assert cosine(a, b) > 0.6
    assert cosine(a, c) < 0.3


def test_encoded_counts_each_distinct_text_once_per_call() -> None:
    extractor = InMemoryFeatureExtractor()
    tap = [FeatureTap(0, Pooling.MEAN)]
    extractor.extract(["a", "b", "a"], tap)
    extractor.extract(["b"], tap)
    assert extractor.encoded == ["a", "b", "b"]


def test_features_are_the_same_on_every_machine() -> None:
    row = InMemoryFeatureExtractor().extract(["hello"], [FeatureTap(2, Pooling.MEAN)])[0]
    assert np.flatnonzero(row).tolist() == [13, 23, 52, 84, 96]
