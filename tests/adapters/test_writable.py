"""What can be written is found out without leaving anything; what cannot is said in one line."""

from __future__ import annotations

import errno
import os
import tempfile
from pathlib import Path
from typing import Any

import pytest

from adapters.files.atomic_files import write_bytes
from adapters.files.writable import check_writable
from domain.errors import StorageError, UsageError


@pytest.mark.parametrize("name", ["new.json", "deep/er/new.json", "old.json", "link.json", "dangling.json"])
def test_a_place_that_can_be_written_is_left_as_it_is(tmp_path: Path, name: str) -> None:
    (tmp_path / "old.json").write_text("old")
    (tmp_path / "link.json").symlink_to("old.json")
    (tmp_path / "dangling.json").symlink_to("not/yet.json")
    before = sorted(path.name for path in tmp_path.rglob("*"))
    check_writable(tmp_path / name)
    assert sorted(path.name for path in tmp_path.rglob("*")) == before
    assert (tmp_path / "old.json").read_text() == "old"


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("file/new.json", "Not a directory"),
        ("file/deep/new.json", "Not a directory"),
        ("folder", "is a folder, not a file"),
        ("pipe", "is a device or pipe, not a file"),
        ("/dev/null", "is a device or pipe, not a file"),
        ("/proc/new.json", "cannot write"),
        ("round/new.json", "cannot write"),
        ("x" * 300 + "/new.json", "File name too long"),
        ("x" * 300, "File name too long"),
    ],
)
def test_a_place_that_cannot_is_named(tmp_path: Path, name: str, message: str) -> None:
    (tmp_path / "file").write_text("x")
    (tmp_path / "folder").mkdir()
    (tmp_path / "round").symlink_to("round")
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(UsageError, match=message) as caught:
        check_writable(tmp_path / name)
    assert caught.value.where == str(tmp_path / name)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "folder", "pipe", "round"]


def test_a_folder_may_be_named_where_a_folder_is_wanted(tmp_path: Path) -> None:
    check_writable(tmp_path, folder=True)


def test_a_full_disk_is_no_mistake_of_the_users(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(**_: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(tempfile, "TemporaryFile", full)
    with pytest.raises(StorageError, match="No space left"):
        check_writable(tmp_path / "new.json")


def test_a_device_or_pipe_is_not_replaced_by_a_file(tmp_path: Path) -> None:
    os.mkfifo(pipe := tmp_path / "pipe")
    with pytest.raises(StorageError, match=r"pipe: is a device or pipe, not a file$"):
        write_bytes(pipe, b"figures")
    assert pipe.is_fifo()
    assert [path.name for path in tmp_path.iterdir()] == ["pipe"]
