"""The feature cache saves passes and never gives a wrong row."""

from __future__ import annotations

import multiprocessing
import os
import random
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from attrs import evolve
from structlog.testing import capture_logs

from adapters.base_model.feature_cache import CachedFeatureExtractor
from adapters.base_model.feature_shards import MANY_SMALL, FeatureColumn
from adapters.in_memory.features import IN_MEMORY_BASE, InMemoryFeatureExtractor
from application.ports import FeatureExtractor
from domain.features import FeatureTap, Matrix, Pooling

TEXTS = [f"prompt number {index} about {topic}" for index in range(4) for topic in ("claims", "calendars", "doctors")]
TAPS = [FeatureTap(1, Pooling.MEAN), FeatureTap(3, Pooling.LAST)]
PLAIN = InMemoryFeatureExtractor().extract(TEXTS, TAPS)


def cached(folder: Path, **options: object) -> tuple[CachedFeatureExtractor, list[str]]:
    """Return a cached extractor and the list of texts that really get encoded."""
    inner = InMemoryFeatureExtractor()
    return CachedFeatureExtractor(inner, folder, **options), inner.encoded  # type: ignore[arg-type]


def shards(folder: Path) -> list[Path]:
    return sorted(folder.glob("*/*.safetensors"))


def test_the_second_time_nothing_is_encoded_in_any_order(tmp_path: Path) -> None:
    first, encoded = cached(tmp_path)
    np.testing.assert_array_equal(first.extract(TEXTS, TAPS), PLAIN)
    assert encoded == TEXTS
    again, encoded = cached(tmp_path)
    order = random.Random(1).sample(range(len(TEXTS)), len(TEXTS))
    shuffled = [TEXTS[index] for index in order]
    np.testing.assert_array_equal(again.extract(shuffled, TAPS), PLAIN[order])
    np.testing.assert_array_equal(again.extract([TEXTS[3], TEXTS[3], TEXTS[0]], TAPS[::-1])[1, 128:], PLAIN[3, :128])
    assert encoded == []
    assert len(shards(tmp_path)) == 2  # one per tap, however many prompts


def test_only_what_is_missing_is_encoded(tmp_path: Path) -> None:
    extractor, encoded = cached(tmp_path)
    extractor.extract(TEXTS[:5], TAPS)
    encoded.clear()
    np.testing.assert_array_equal(extractor.extract(TEXTS, TAPS), PLAIN)
    assert encoded == TEXTS[5:]
    encoded.clear()
    other = [FeatureTap(2, Pooling.MEAN), TAPS[0]]
    expected = InMemoryFeatureExtractor().extract(TEXTS, other)
    np.testing.assert_array_equal(extractor.extract(TEXTS, other), expected)
    np.testing.assert_array_equal(extractor.extract(TEXTS, [*other, *TAPS])[:, :256], expected)
    assert encoded == TEXTS  # for the new layer, once


@pytest.mark.parametrize(
    "other",
    [
        CachedFeatureExtractor(InMemoryFeatureExtractor(evolve(IN_MEMORY_BASE, fingerprint="another")), Path()),
        CachedFeatureExtractor(InMemoryFeatureExtractor(max_tokens=3), Path()),
        CachedFeatureExtractor(InMemoryFeatureExtractor(), Path(), variant="bfloat16"),
    ],
    ids=["base model", "token limit", "variant"],
)
def test_what_decides_the_numbers_has_rows_of_its_own(tmp_path: Path, other: CachedFeatureExtractor) -> None:
    cached(tmp_path)[0].extract(TEXTS, TAPS)
    evolve(other, folder=tmp_path).extract(TEXTS, TAPS)
    assert other.inner.encoded == TEXTS  # type: ignore[attr-defined]


def test_the_name_of_the_base_model_does_not_matter(tmp_path: Path) -> None:
    cached(tmp_path)[0].extract(TEXTS, TAPS)
    inner = InMemoryFeatureExtractor(evolve(IN_MEMORY_BASE, name="/elsewhere"))
    CachedFeatureExtractor(inner, tmp_path).extract(TEXTS, TAPS)
    assert inner.encoded == []


def damaged_bytes(data: bytes) -> dict[str, bytes]:
    positions = random.Random(7).sample(range(len(data)), 40)
    flipped = {f"flip {i}": data[:i] + bytes([data[i] ^ 0x10]) + data[i + 1 :] for i in positions}
    cut = {f"cut {size}": data[:size] for size in (0, 7, 8, 100, len(data) // 2, len(data) - 1)}
    return {**flipped, **cut, "longer": data + b"x", "no safetensors": b"\x80\x04\x95" + data[3:]}


def test_a_damaged_shard_is_computed_again_and_said(tmp_path: Path) -> None:
    cached(tmp_path)[0].extract(TEXTS, TAPS[:1])
    (path,) = shards(tmp_path)
    original = path.read_bytes()
    for what, data in damaged_bytes(original).items():
        for stale in shards(tmp_path):
            stale.unlink()
        path.write_bytes(data)
        extractor, encoded = cached(tmp_path)
        with capture_logs() as logs:
            np.testing.assert_array_equal(extractor.extract(TEXTS, TAPS[:1]), PLAIN[:, :128], err_msg=what)
        assert encoded == TEXTS, what
        assert [entry["event"] for entry in logs if entry["log_level"] == "warning"] == [
            "feature_cache.shard_rejected"
        ]
        assert not path.exists(), what


def test_a_shard_of_another_tap_is_not_believed(tmp_path: Path) -> None:
    cached(tmp_path)[0].extract(TEXTS, TAPS)
    first, second = shards(tmp_path)
    first.write_bytes(second.read_bytes())
    extractor, encoded = cached(tmp_path)
    np.testing.assert_array_equal(extractor.extract(TEXTS, TAPS), PLAIN)
    assert encoded == TEXTS


def test_many_small_shards_are_merged(tmp_path: Path) -> None:
    extractor, encoded = cached(tmp_path)
    texts = [f"single prompt {index}" for index in range(MANY_SMALL + 5)]
    for text in texts:
        extractor.extract([text], TAPS[:1])
    assert 0 < len(shards(tmp_path)) <= MANY_SMALL
    encoded.clear()
    expected = InMemoryFeatureExtractor().extract(texts, TAPS[:1])
    np.testing.assert_array_equal(extractor.extract(texts, TAPS[:1]), expected)
    assert encoded == []


def test_the_folder_stays_below_its_limit_and_keeps_what_was_used_last(tmp_path: Path) -> None:
    extractor, _ = cached(tmp_path)
    for start in (0, 4, 8):
        extractor.extract(TEXTS[start : start + 4], TAPS[:1])
    oldest, *_ = by_age(tmp_path)
    extractor.extract(TEXTS[0:4], TAPS[:1])  # used again: now the youngest
    assert by_age(tmp_path)[-1] == oldest
    size = oldest.stat().st_size
    small, _ = cached(tmp_path, max_bytes=3 * size)
    small.extract([f"{text} more" for text in TEXTS[:4]], TAPS[:1])
    assert sum(path.stat().st_size for path in shards(tmp_path)) <= 3 * size
    again, encoded = cached(tmp_path)
    again.extract(TEXTS, TAPS[:1])
    assert encoded == TEXTS[4:8]  # the least recently used


def by_age(folder: Path) -> list[Path]:
    """Spread the shards' times (file systems may round them), and return them oldest first."""
    ordered = sorted(shards(folder), key=lambda path: path.stat().st_mtime_ns)
    for position, path in enumerate(ordered):
        moment = time.time() - 100 + position
        os.utime(path, (moment, moment))
    return ordered


def test_half_written_files_of_the_dead_are_removed_and_those_of_others_are_kept(tmp_path: Path) -> None:
    extractor, _ = cached(tmp_path)
    extractor.extract(TEXTS[:1], TAPS)
    dead = shards(tmp_path)[0].with_name(".0.safetensors.0123456789abcdef.moe-partial")
    notes = shards(tmp_path)[0].with_name("notes.txt")
    for path in (dead, notes):
        path.write_bytes(b"half")
        os.utime(path, (0, 0))
    extractor.extract(TEXTS, TAPS)
    assert not dead.exists()
    assert notes.exists()


def test_special_files_loops_folders_and_rows_that_are_not_finite_are_computed_again(tmp_path: Path) -> None:
    extractor, encoded = cached(tmp_path)
    extractor.extract(TEXTS[:3], TAPS)
    column = FeatureColumn(shards(tmp_path)[0].parent, 64)
    os.mkfifo(column.folder / "pipe.safetensors")
    (column.folder / "loop.safetensors").symlink_to("loop.safetensors")
    (column.folder / "zero.safetensors").symlink_to("/dev/zero")
    (column.folder / "folder.safetensors").mkdir()
    encoded.clear()
    np.testing.assert_array_equal(extractor.extract(TEXTS, TAPS), PLAIN)
    assert encoded == TEXTS[3:]
    column.add({b"k" * 32: np.full(64, np.nan, np.float32)})
    assert column.lookup({b"k" * 32}) == {}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(np, "isfinite", lambda values: np.full(np.shape(values), True))  # as somebody else might write
        column.add({b"k" * 32: np.full(64, np.nan, np.float32)})
    assert column.lookup({b"k" * 32}) == {}


def test_a_cache_that_cannot_be_written_costs_nothing_but_a_warning(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    extractor, _ = cached(tmp_path / "file")
    with capture_logs() as logs:
        np.testing.assert_array_equal(extractor.extract(TEXTS, TAPS), PLAIN)
    assert [entry["event"] for entry in logs if entry["log_level"] == "warning"] == ["feature_cache.not_written"]


def test_a_full_disk_leaves_no_half_shard(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.write

    def full(descriptor: int, data: bytes) -> int:
        real(descriptor, bytes(data[: len(data) // 2]))
        raise OSError(28, "No space left on device")

    extractor, _ = cached(tmp_path)
    with monkeypatch.context() as patch, capture_logs() as logs:
        patch.setattr(os, "write", full)
        np.testing.assert_array_equal(extractor.extract(TEXTS, TAPS), PLAIN)
    assert "No space left" in logs[-1]["reason"]
    assert [path for path in tmp_path.glob("*/*") if path.is_file()] == []


def test_a_shard_that_vanishes_between_listing_and_reading_is_a_miss(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(FeatureColumn, "shards", lambda self: [self.folder / "gone.safetensors"])
    extractor, encoded = cached(tmp_path)
    with capture_logs() as logs:
        np.testing.assert_array_equal(extractor.extract(TEXTS, TAPS), PLAIN)
    assert encoded == TEXTS
    assert not [entry for entry in logs if entry["log_level"] == "warning"]


def test_texts_that_are_no_valid_unicode_have_rows(tmp_path: Path) -> None:
    extractor, encoded = cached(tmp_path)
    first = extractor.extract(["lone \ud800"], TAPS)
    np.testing.assert_array_equal(extractor.extract(["lone \ud800"], TAPS), first)
    assert encoded == ["lone \ud800"]


class Interrupting:
    """An extractor that is interrupted at its n-th call."""

    def __init__(self, inner: FeatureExtractor, calls: int) -> None:
        self.inner, self.calls = inner, calls
        self.base, self.max_tokens = inner.base, inner.max_tokens

    def extract(self, texts: Sequence[str], taps: Sequence[FeatureTap]) -> Matrix:
        self.calls -= 1
        if self.calls == 0:
            raise KeyboardInterrupt
        return self.inner.extract(texts, taps)

    def batches(self, texts: Sequence[str]) -> list[list[str]]:
        return self.inner.batches(texts)


def test_an_interrupted_run_goes_on_where_it_was_bit_for_bit(tmp_path: Path, tiny_base: Path) -> None:
    from adapters.base_model.transformers_base import load_base
    from adapters.base_model.transformers_features import TransformersFeatureExtractor

    base = load_base(str(tiny_base), cache_dir=tiny_base, device="cpu")
    inner = TransformersFeatureExtractor(base, token_budget=64)
    first = Interrupting(inner, 100)
    whole = CachedFeatureExtractor(first, tmp_path / "a", texts_per_call=5).extract(TEXTS, TAPS)
    with pytest.raises(KeyboardInterrupt):
        CachedFeatureExtractor(Interrupting(inner, 2), tmp_path / "b", texts_per_call=5).extract(TEXTS, TAPS)
    counting = Interrupting(inner, 100)
    resumed = CachedFeatureExtractor(counting, tmp_path / "b", texts_per_call=5).extract(TEXTS, TAPS)
    np.testing.assert_array_equal(resumed, whole)
    assert 100 - first.calls > 2
    assert counting.calls == first.calls + 1  # one group was there


def hammer(folder: Path, seed: int) -> None:
    """Read and write one small, ever evicting cache; exits with an error when a row is wrong."""
    rng = random.Random(seed)
    extractor, _ = cached(folder, max_bytes=20_000)
    for _ in range(40):
        rows = rng.sample(range(len(TEXTS)), rng.randint(1, len(TEXTS)))
        np.testing.assert_array_equal(extractor.extract([TEXTS[i] for i in rows], TAPS), PLAIN[rows])


def test_processes_share_a_folder(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    workers = [context.Process(target=hammer, args=(tmp_path, seed)) for seed in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
    assert [worker.exitcode for worker in workers] == [0] * 4
