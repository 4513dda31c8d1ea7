"""Killed, out of disk, refused or raced at every step of writing: the data set is complete or it is not there.

The method is SQLite's: fail the N-th file-system operation for N = 1, 2, 3 … until the run succeeds.
"""

import errno
import os
import resource
import signal
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

from adapters.datasets.jsonl_dataset_store import JsonlDatasetStore
from adapters.files import folder_locks, staged_folder
from application.datasets.verify_dataset import VerifyDataset
from domain.errors import MoeRouterError, StorageError, TargetExistsError
from tests.dataset_world import generate, rows_of

ROWS = {"a": rows_of("a", 9), "b": [*rows_of("b", 9), []]}
OPERATIONS = ("mkdir", "open", "write", "fsync", "rename", "close", "rmdir", "unlink")
WRITING = ("mkdir", "open", "write", "fsync", "rename")


def run(target, **options):
    options = {"train_samples": 4, "eval_samples": 2, "output_dir": target} | options
    return generate(ROWS, JsonlDatasetStore(), **options)[0]


def is_complete(target):
    return VerifyDataset(JsonlDatasetStore())(target).passed


class Saboteur:
    """Counts file-system calls and does something instead of, or before, those that it was told to."""

    def __init__(self, operations: tuple[str, ...], at: Callable[[int], bool], act: Callable[[str, tuple], None]):
        self.count, self.at, self.act = 0, at, act
        self.operations = operations

    def install(self, setattr_: Callable[[object, str, object], None]) -> None:
        for name in self.operations:
            setattr_(os, name, self._wrapped(name, getattr(os, name)))
        setattr_(staged_folder, "_exchange", self._wrapped("rename", staged_folder._exchange))

    def _wrapped(self, name, original):
        def call(*args, **kwargs):
            self.count += 1
            if self.at(self.count):
                self.act(name, args)
            return original(*args, **kwargs)

        return call


def run_killed_at(step, target, **options):
    """Run in a child that is killed before its step-th call; return whether it ended by itself.

    Before it is killed at a write, half of the bytes reach the file.
    """
    child = os.fork()
    if child:
        status = os.waitpid(child, 0)[1]
        assert os.WIFSIGNALED(status) or os.WEXITSTATUS(status) == 0
        return os.WIFEXITED(status)
    code = 1
    try:
        real_write = os.write

        def die(name, args):
            if name == "write":
                real_write(args[0], bytes(args[1])[: len(args[1]) // 2])
            os.kill(os.getpid(), signal.SIGKILL)

        Saboteur(OPERATIONS, lambda count: count == step, die).install(setattr)
        run(target, **options)
        code = 0
    finally:
        os._exit(code)
    return False


def test_killed_at_any_call_the_data_set_is_complete_or_absent(tmp_path):
    for step in range(1, 500):
        target = tmp_path / str(step) / "sets" / "out"
        target.parent.parent.mkdir()
        ended = run_killed_at(step, target)
        if target.exists():
            assert is_complete(target), f"killed at call {step}"
        else:
            assert not ended
            run(target)  # a second run clears away what the killed one left
            assert is_complete(target)
        assert [one.name for one in target.parent.iterdir()] == ["out"], f"killed at call {step}"
        if ended:
            break
    assert 30 < step < 499


def test_killed_while_replacing_the_old_or_the_new_data_set_is_complete(tmp_path):
    seen = set()
    for step in range(1, 500):
        target = tmp_path / str(step) / "out"
        run(target, seed=1)
        ended = run_killed_at(step, target, seed=2, replace=True)
        assert is_complete(target), f"killed at call {step}"
        seen.add(JsonlDatasetStore().read_metadata(target)["seed"])
        run(target, seed=3, replace=True)
        assert is_complete(target)
        assert [one.name for one in target.parent.iterdir()] == ["out"]
        if ended:
            break
    assert seen == {1, 2}
    assert step < 499


@pytest.mark.parametrize("permanent", [False, True])
@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EIO, errno.EROFS])
def test_any_failing_call_gives_one_clear_line_and_leaves_nothing(tmp_path, monkeypatch, permanent, number):
    def fail(name, args):
        if not (permanent and name == "open" and not args[1] & os.O_CREAT):  # a full disk still lets itself be read
            raise OSError(number, os.strerror(number))

    for step in range(1, 500):
        target = tmp_path / str(step) / "sets" / "out"
        target.parent.parent.mkdir()
        at = (lambda count, step=step: count >= step) if permanent else (lambda count, step=step: count == step)
        message = None
        with monkeypatch.context() as patch:
            Saboteur(WRITING, at, fail).install(patch.setattr)
            try:
                run(target)
            except StorageError as error:
                message = str(error)
        succeeded = message is None
        assert succeeded or (str(target) in message and os.strerror(number) in message)
        if target.exists():  # even if the last call, syncing the folder above, failed
            assert is_complete(target)
        else:
            assert not succeeded
            assert list(target.parent.parent.iterdir()) == [], f"failed at call {step}"
        if succeeded:
            break
    assert 15 < step < 499


def test_everything_is_synced_before_the_name_appears_and_the_manifest_is_written_last(tmp_path, monkeypatch):
    log, names = [], {}
    real = {name: getattr(os, name) for name in ("open", "fsync", "rename")}

    def opened(path, *args, **kwargs):
        descriptor = real["open"](path, *args, **kwargs)
        names[descriptor] = os.path.basename(path)  # noqa: PTH119
        if args[0] & os.O_CREAT:
            log.append(f"create {names[descriptor]}")
        return descriptor

    def synced(descriptor):
        log.append(f"sync {names[descriptor]}")
        real["fsync"](descriptor)

    def renamed(old, new):
        log.append("rename")
        real["rename"](old, new)

    monkeypatch.setattr(os, "open", opened)
    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(os, "rename", renamed)
    run(tmp_path / "out")
    created = [entry.removeprefix("create ") for entry in log if entry.startswith("create ")]
    assert created[-1] == "metadata.json"
    assert set(created) == {one.name for one in (tmp_path / "out").iterdir()}
    assert log[: 2 * len(created)] == [f"{what} {name}" for name in created for what in ("create", "sync")]
    assert log[2 * len(created) :] == ["sync .out.partial", "rename", f"sync {tmp_path.name}"]


def test_short_writes_are_written_on(tmp_path, monkeypatch):
    real_write = os.write
    monkeypatch.setattr(os, "write", lambda descriptor, data: real_write(descriptor, bytes(data[:7])))
    run(tmp_path / "out")
    assert is_complete(tmp_path / "out")


@pytest.mark.parametrize("limit", [0, 100, 700])
def test_a_real_limit_on_file_sizes_leaves_nothing(tmp_path, limit):
    child = os.fork()
    if not child:
        code = 1
        try:
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
            run(tmp_path / "sets" / "out")
        except StorageError:
            code = 42
        finally:
            os._exit(code)
    assert os.WEXITSTATUS(os.waitpid(child, 0)[1]) == 42
    assert list(tmp_path.iterdir()) == []


def test_a_place_that_cannot_be_written_to_is_named(tmp_path):
    (tmp_path / "file").write_text("x")
    (tmp_path / "loop").symlink_to("loop")
    for target in (tmp_path / "file" / "deep" / "out", Path("/proc/none/out"), tmp_path / "loop" / "out"):
        with pytest.raises(StorageError, match="cannot write") as caught:
            run(target)
        assert str(target) in str(caught.value)
    assert {one.name for one in tmp_path.iterdir()} == {"file", "loop"}


def test_a_name_that_is_too_long_is_one_line(tmp_path):
    with pytest.raises(StorageError, match="too long"):
        run(tmp_path / ("x" * 255))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("replace", [False, True])
def test_a_symbolic_link_is_refused(tmp_path, replace):
    run(tmp_path / "real")
    for name, aim in (("link", "real"), ("dangling", "nowhere")):
        (tmp_path / name).symlink_to(aim)
        with pytest.raises(TargetExistsError, match="symbolic link"):
            run(tmp_path / name, replace=replace)
    assert is_complete(tmp_path / "real")
    assert {one.name for one in tmp_path.iterdir()} == {"real", "link", "dangling"}


def test_an_empty_folder_is_taken_only_with_force(tmp_path):
    (tmp_path / "out").mkdir()
    with pytest.raises(TargetExistsError, match="already exists"):
        run(tmp_path / "out")
    run(tmp_path / "out", replace=True)
    assert is_complete(tmp_path / "out")


def test_without_an_atomic_exchange_replacing_still_works(tmp_path, monkeypatch):
    class OldLibrary:
        def __init__(self, *_args, **_options):
            pass

    run(tmp_path / "out", seed=1)
    monkeypatch.setattr(staged_folder.ctypes, "CDLL", OldLibrary)
    run(tmp_path / "out", seed=2, replace=True)
    assert JsonlDatasetStore().read_metadata(tmp_path / "out")["seed"] == 2
    assert [one.name for one in tmp_path.iterdir()] == ["out"]


def test_what_killed_runs_left_under_default_names_is_cleared_by_the_next_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "datasets").mkdir()
    dead, living, other = (
        tmp_path / "datasets" / name
        for name in (".routing_20250101_000000.partial", ".old_20250101_000000_2.partial", ".notes.partial")
    )
    for folder in (dead, living, other):
        folder.mkdir()
        (folder / "train.jsonl").write_text("half")
    (tmp_path / "datasets" / ".routing_20250101_000001.partial").write_text("a file")
    descriptor = folder_locks.lock_new_folder(living)  # as a run does that is at work
    (living / "train.jsonl").write_text("half")
    report = run(None)
    assert is_complete(report.path)
    names = {".old_20250101_000000_2.partial", ".notes.partial", ".routing_20250101_000001.partial"}
    assert {one.name for one in (tmp_path / "datasets").iterdir()} == {report.path.name, *names}
    assert (living / "train.jsonl").read_text() == "half"
    os.close(descriptor)
    run(tmp_path / "datasets" / "named")
    assert not living.exists()


def test_a_run_killed_anywhere_under_a_default_name_leaves_nothing_after_the_next(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for step in (3, 6, 9, 12):
        assert not run_killed_at(step, None)
    assert list((tmp_path / "datasets").glob(".*.partial"))
    run(tmp_path / "datasets" / "named")
    assert not list((tmp_path / "datasets").glob(".*"))


def test_a_folder_that_was_just_made_is_not_lost_to_who_clears_leftovers(tmp_path, monkeypatch):
    """Between mkdir and its lock a new folder looks like a leftover; its maker makes it again."""
    folder = tmp_path / ".routing_20250101_000000.partial"
    plain, cleared = os.open, []

    def open_(path, *args, **options):
        if Path(path) == folder and not cleared:
            cleared.append(True)
            folder_locks.clear_leftovers(tmp_path)
            assert not folder.exists()
        return plain(path, *args, **options)

    monkeypatch.setattr(os, "open", open_)
    descriptor = folder_locks.lock_new_folder(folder)
    assert descriptor is not None
    assert cleared
    assert folder.is_dir()
    os.close(descriptor)


def test_runs_in_the_same_second_all_succeed(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    children = []
    reading, writing = os.pipe()
    for _ in range(6):
        child = os.fork()
        if not child:
            code = 1
            with suppress(BaseException):
                os.close(writing)
                os.read(reading, 1)  # the end of the pipe is the common start
                run(None)
                code = 0
            os._exit(code)
        children.append(child)
    os.close(writing)
    assert [os.waitpid(child, 0)[1] for child in children] == [0] * 6
    os.close(reading)
    names = sorted(one.name for one in (tmp_path / "datasets").iterdir())
    assert names == ["routing_20251124_123456", *(f"routing_20251124_123456_{number}" for number in range(2, 7))]
    assert all(is_complete(tmp_path / "datasets" / name) for name in names)


def test_runs_into_one_target_give_one_data_set_and_one_clear_refusal_each(tmp_path):
    children = []
    for seed in range(6):
        child = os.fork()
        if not child:
            code = 1
            try:
                run(tmp_path / "out", seed=seed)
                code = 0
            except TargetExistsError:
                code = 3
            except MoeRouterError:
                code = 4
            finally:
                os._exit(code)
        children.append(child)
    codes = [os.WEXITSTATUS(os.waitpid(child, 0)[1]) for child in children]
    assert sorted(codes) == [0, 3, 3, 3, 3, 3]
    assert is_complete(tmp_path / "out")
    assert [one.name for one in tmp_path.iterdir()] == ["out"]


@pytest.mark.parametrize("error", [PermissionError(13, "Permission denied"), FileNotFoundError(2, "gone")])
def test_a_leftover_that_cannot_be_cleared_keeps_no_lock(tmp_path, monkeypatch, error):
    leftover = tmp_path / ".set.partial" / "train.jsonl"
    leftover.parent.mkdir()
    leftover.write_text("x")
    opened = len(list(Path("/proc/self/fd").iterdir()))
    with monkeypatch.context() as patch:
        fails = iter([error])
        unlink = Path.unlink
        patch.setattr(Path, "unlink", lambda path: raises(one) if (one := next(fails, None)) else unlink(path))
        with suppress(PermissionError):
            os.close(folder_locks.lock_new_folder(leftover.parent))
    assert len(list(Path("/proc/self/fd").iterdir())) == opened
    descriptor = folder_locks.lock_new_folder(leftover.parent)  # the same process may try again
    assert descriptor is not None
    os.close(descriptor)


def raises(error):
    raise error
