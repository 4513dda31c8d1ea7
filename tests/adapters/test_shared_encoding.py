"""Several machines that share the encoding of a run's prompts leave the bits that one machine computes."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest

from adapters.base_model.feature_cache import CachedFeatureExtractor
from adapters.base_model.transformers_base import load_base
from adapters.base_model.transformers_features import TransformersFeatureExtractor
from adapters.in_memory.prompts import InMemoryPromptReader
from application.ports import FeatureExtractor
from application.training.encode_share import EncodeShare
from application.training.training_data import read_training_data
from domain.errors import MissingFileError, UsageError
from domain.feature_choice import distinct_taps, feature_candidates
from domain.samples import RoutingSample
from tests.training_world import COMPANIONS, JOB

NAMES = ("calendar", "claims")


class Rows:
    """Rows of very different lengths, some prompts twice."""

    def read_rows(self, path: Path) -> list[RoutingSample]:
        draw = random.Random(path.name)
        return [
            RoutingSample(
                f"{NAMES[i % 2]} {draw.randint(0, 60)} " + "and so on " * draw.randint(0, 20),
                i % 2,
                NAMES[i % 2],
                f"{path.name}-{i}",
            )
            for i in range(60)
        ]

    def read_metadata(self, folder: Path) -> dict[str, object]:
        raise MissingFileError("no such file", where=folder)


@pytest.fixture(scope="module")
def plain(tiny_base: Path) -> TransformersFeatureExtractor:
    base = load_base(str(tiny_base), cache_dir=tiny_base, device="cpu")
    return TransformersFeatureExtractor(base, token_budget=300)


def test_shares_fill_the_cache_with_the_bits_of_a_run_that_does_all_by_itself(
    plain: TransformersFeatureExtractor, tmp_path: Path
) -> None:
    def cached(folder: str, texts_per_call: int = 25) -> CachedFeatureExtractor:
        return CachedFeatureExtractor(plain, tmp_path / folder, texts_per_call=texts_per_call)

    def source(*_: object, **__: object) -> FeatureExtractor:
        return cached("shared")

    prompts = InMemoryPromptReader({})
    texts = read_training_data(Rows(), prompts, JOB, COMPANIONS).prompts.texts
    taps = distinct_taps(feature_candidates(plain.base.n_layers, JOB.options.layers, JOB.options.pooling))
    encode = EncodeShare(Rows(), prompts, source, COMPANIONS)
    done = [encode(JOB, share, 3) for share in (1, 0, 2)]
    assert sum(report.prompts for report in done) == len(set(texts))
    assert all(report.prompts for report in done)
    alone = plain.extract(texts, taps)
    np.testing.assert_array_equal(cached("alone").extract(texts, taps), alone)
    np.testing.assert_array_equal(cached("shared").extract(texts, taps), alone)


def test_a_share_that_does_not_exist_is_refused(plain: TransformersFeatureExtractor) -> None:
    with pytest.raises(UsageError, match="share 3 is not one of 3"):
        EncodeShare(Rows(), InMemoryPromptReader({}), lambda *_, **__: plain, COMPANIONS)(JOB, 3, 3)
