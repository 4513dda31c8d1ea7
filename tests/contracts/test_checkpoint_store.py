"""What every CheckpointStore promises."""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from adapters.files.safetensors_checkpoints import SafetensorsCheckpointStore
from adapters.in_memory.training import InMemoryCheckpointStore
from application.ports import Checkpoint
from domain.errors import StorageError

VALUES = {"kind": "kernel", "step": 12, "loss": 0.1 + 0.2, "best": math.inf, "reason": None, "started": True}


@pytest.fixture(params=[InMemoryCheckpointStore, SafetensorsCheckpointStore])
def store(request: Any) -> Any:
    return request.param()


def checkpoint(key: str = "a", value: float = 1.5) -> Checkpoint:
    tensors = {"w": np.full((2, 3), value, np.float32), "n": np.array(7, np.int64), "nan": np.array([np.nan])}
    return Checkpoint(key, VALUES, tensors)


def bits(checkpoint: Checkpoint) -> dict[str, tuple[Any, ...]]:
    return {name: (each.dtype, each.shape, each.tobytes()) for name, each in checkpoint.tensors.items()}


def test_what_was_saved_comes_back_bit_for_bit(store: Any, tmp_path: Path) -> None:
    folder = tmp_path / "r.safetensors.checkpoint"
    store.save(folder, "head", checkpoint(value=1.0))
    store.save(folder, "head", checkpoint())
    store.save(folder, "features", checkpoint(value=9.0))
    found = store.load(folder, "head", "a")
    assert found.values == VALUES
    assert bits(found) == bits(checkpoint())


def test_another_key_another_name_and_another_folder_find_nothing(store: Any, tmp_path: Path) -> None:
    store.save(tmp_path / "x", "head", checkpoint())
    assert store.load(tmp_path / "x", "head", "b") is None
    assert store.load(tmp_path / "x", "features", "a") is None
    assert store.load(tmp_path / "y", "head", "a") is None


def test_clear_forgets_the_folder_only_and_does_not_mind_when_there_is_none(store: Any, tmp_path: Path) -> None:
    store.save(tmp_path / "x", "head", checkpoint())
    store.save(tmp_path / "y", "head", checkpoint())
    store.clear(tmp_path / "x")
    store.clear(tmp_path / "x")
    assert store.load(tmp_path / "x", "head", "a") is None
    assert store.load(tmp_path / "y", "head", "a") is not None
    assert not (tmp_path / "x").exists()


def test_every_cut_and_every_flipped_byte_counts_as_absent(tmp_path: Path) -> None:
    store = SafetensorsCheckpointStore()
    store.save(tmp_path, "head", checkpoint())
    file = tmp_path / "head.safetensors"
    whole = file.read_bytes()
    for position in range(len(whole)):
        file.write_bytes(whole[:position])
        assert store.load(tmp_path, "head", "a") is None, position
        file.write_bytes(whole[:position] + bytes([whole[position] ^ 1]) + whole[position + 1 :])
        found = store.load(tmp_path, "head", "a")
        same = found is None or (found.values, bits(found)) == (VALUES, bits(checkpoint()))
        assert same, position  # white space in the header may change, nothing that is read
    file.write_bytes(whole)
    assert store.load(tmp_path, "head", "a") is not None


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(StorageError, match="file/x"):
        SafetensorsCheckpointStore().save(tmp_path / "file/x", "head", checkpoint())


def test_special_files_loops_and_folders_count_as_absent_and_what_others_put_there_stays(tmp_path: Path) -> None:
    store, folder = SafetensorsCheckpointStore(), tmp_path / "x"
    folder.mkdir()
    os.mkfifo(folder / "pipe.safetensors")
    (folder / "loop.safetensors").symlink_to("loop.safetensors")
    (folder / "folder.safetensors").mkdir()
    for name in ("pipe", "loop", "folder"):
        assert store.load(folder, name, "a") is None
    (folder / "folder.safetensors").rmdir()
    (folder / "notes.txt").write_text("mine")
    store.save(folder, "head", checkpoint())
    store.clear(folder)
    assert [path.name for path in folder.iterdir()] == ["notes.txt"]
