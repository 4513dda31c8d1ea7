"""Single files that appear complete or not at all, and folders of other kinds than data sets."""

import os
import signal

import pytest

from adapters.files.atomic_files import write_bytes
from adapters.files.regular_files import SpecialFileError, read_regular
from adapters.files.staged_folder import check_replaceable
from adapters.lora.lora_folder import save_lora_folder
from adapters.router.router_folder import ROUTER_FOLDER
from adapters.router.safetensors_router_store import SafetensorsRouterStore
from domain.errors import StorageError, TargetExistsError
from tests.router_world import router_world


def test_a_run_killed_while_it_writes_leaves_nothing_after_the_next(tmp_path):
    for name in ("os.write", "os.fsync", "os.replace"):
        child = os.fork()
        if not child:
            setattr(os, name.split(".")[1], lambda *_: os.kill(os.getpid(), signal.SIGKILL))
            write_bytes(tmp_path / "report.json", b"{}")
            os._exit(0)
        os.waitpid(child, 0)
        assert len(list(tmp_path.glob(".report.json.*.moe-partial"))) == 1
        write_bytes(tmp_path / "other.json", b"{}")
        assert [path.name for path in tmp_path.iterdir()] == ["other.json"]


def test_a_long_name_and_its_access_rights(tmp_path):
    target = tmp_path / ("ü" * 127)
    write_bytes(target, b"1")
    write_bytes(target, b"2")
    mask = os.umask(0o022)
    os.umask(mask)
    assert (target.read_bytes(), target.stat().st_mode & 0o777) == (b"2", 0o666 & ~mask)


def test_what_cannot_be_written_is_one_line(tmp_path):
    (tmp_path / "folder").mkdir()
    (tmp_path / "loop").symlink_to("loop")
    os.mkfifo(tmp_path / "pipe")
    for name in ("folder", "loop", "pipe", "x" * 256):
        with pytest.raises(StorageError, match=name):
            write_bytes(tmp_path / name, b"1")
    assert {path.name for path in tmp_path.iterdir()} == {"folder", "loop", "pipe"}


def test_special_files_are_not_read(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "zero").symlink_to("/dev/zero")
    for name in ("pipe", "zero"):
        with pytest.raises(SpecialFileError, match="device or pipe"):
            read_regular(tmp_path / name)
    with pytest.raises(IsADirectoryError):
        read_regular(tmp_path)


def test_a_router_folder_with_anything_else_in_it_is_not_replaced(tmp_path):
    store, router, folder = SafetensorsRouterStore(), router_world().assembled(), tmp_path / "router"
    store.save(router, folder)
    store.save(router, folder)  # its own
    for name in ("README.md", "notes.txt"):
        before = (folder / name).read_bytes() if (folder / name).exists() else None
        (folder / name).write_text("mine")
        with pytest.raises(TargetExistsError, match=name.replace(".", r"\.")):
            store.save(router, folder)
        with pytest.raises(TargetExistsError):
            store.check_target(folder)
        assert (folder / name).read_text() == "mine"
        (folder / name).unlink() if before is None else (folder / name).write_bytes(before)
    (tmp_path / "only").mkdir()
    (tmp_path / "only" / "README.md").write_text("mine")
    with pytest.raises(TargetExistsError):
        check_replaceable(tmp_path / "only", ROUTER_FOLDER)


def test_a_lora_folder_with_anything_else_in_it_is_not_replaced(tmp_path):
    folder = tmp_path / "lora"
    for _ in range(2):
        save_lora_folder(folder, config={"r": 1}, tensors={}, fingerprint="f", replace=True)
    (folder / "notes.txt").write_text("mine")
    with pytest.raises(TargetExistsError, match=r"notes\.txt"):
        save_lora_folder(folder, config={"r": 1}, tensors={}, fingerprint="f", replace=True)
    assert (folder / "notes.txt").read_text() == "mine"
