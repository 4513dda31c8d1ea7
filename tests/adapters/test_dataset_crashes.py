"""Killed, out of disk, refused or raced at every step of writing: the data set is complete or it is not there.

The method is SQLite's: fail the N-th file-system operation for N = 1, 2, 3 … until the run succeeds.
"""

import errno
import fcntl
import os
import re
import resource
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from adapters.datasets.jsonl_dataset_store import JsonlDatasetStore
from adapters.files import leftovers, renames
from application.datasets.verify_dataset import VerifyDataset
from domain.errors import MoeRouterError, StorageError, TargetExistsError
from tests.dataset_world import generate, rows_of
from tests.faults.sabotage import EVERYTHING

ROWS = {"a": rows_of("a", 9), "b": [*rows_of("b", 9), []]}
OPERATIONS = ("mkdir", "open", "write", "fsync", "rename", "close", "rmdir", "unlink")
STEPS = range(1, 500, 1 if EVERYTHING else 7)
"""Every call in `make faults`; every seventh in `make test`."""
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
        setattr_(renames, "_renameat2", self._wrapped("rename", renames._renameat2))

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
    for step in STEPS:
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
    assert 30 < step < 490


def test_killed_while_replacing_the_old_or_the_new_data_set_is_complete(tmp_path):
    seen = set()
    for step in STEPS:
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
    assert step < 490


@pytest.mark.parametrize("permanent", [False, True])
@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EIO, errno.EROFS])
def test_any_failing_call_gives_one_clear_line_and_leaves_nothing(tmp_path, monkeypatch, permanent, number):
    def fail(name, args):
        if not (permanent and name == "open" and not args[1] & os.O_CREAT):  # a full disk still lets itself be read
            raise OSError(number, os.strerror(number))

    for step in STEPS:
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
    assert 15 < step < 490


def test_everything_is_synced_before_the_name_appears_and_the_manifest_is_written_last(tmp_path, monkeypatch):
    log, names = [], {}
    real = {"open": os.open, "fsync": os.fsync, "rename": renames._renameat2}

    def opened(path, *args, **kwargs):
        descriptor = real["open"](path, *args, **kwargs)
        names[descriptor] = os.path.basename(path)  # noqa: PTH119
        if args[0] & os.O_CREAT:
            log.append(f"create {names[descriptor]}")
        return descriptor

    def synced(descriptor):
        log.append(f"sync {names[descriptor]}")
        real["fsync"](descriptor)

    def renamed(*names):
        log.append("rename")
        return real["rename"](*names)

    monkeypatch.setattr(os, "open", opened)
    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(renames, "_renameat2", renamed)
    run(tmp_path / "out")
    created = [entry.removeprefix("create ") for entry in log if entry.startswith("create ")]
    assert created[-1] == "metadata.json"
    assert set(created) == {one.name for one in (tmp_path / "out").iterdir()}
    staging, synced = log[2 * len(created)], sorted(f"sync {name}" for name in created)
    assert log == [*(f"create {name}" for name in created), *synced, staging, "rename", f"sync {tmp_path.name}"]
    assert staging.startswith("sync .out.")


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
        run(tmp_path / ("x" * 256))
    assert list(tmp_path.iterdir()) == []
    run(tmp_path / ("é" * 127))
    assert is_complete(tmp_path / ("é" * 127))


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


@pytest.fixture
def two_steps(monkeypatch):
    """A system without renameat2."""
    monkeypatch.setattr(renames, "_renameat2", lambda *_: False)


def test_without_an_atomic_exchange_replacing_still_works(tmp_path, monkeypatch):
    class OldLibrary:
        def __init__(self, *_args, **_options):
            pass

    run(tmp_path / "out", seed=1)
    monkeypatch.setattr(renames.ctypes, "CDLL", OldLibrary)
    run(tmp_path / "out", seed=2, replace=True)
    assert JsonlDatasetStore().read_metadata(tmp_path / "out")["seed"] == 2
    assert [one.name for one in tmp_path.iterdir()] == ["out"]
    with pytest.raises(TargetExistsError):
        run(tmp_path / "out")


@pytest.mark.usefixtures("two_steps")
def test_killed_between_two_renames_the_old_data_set_comes_back_with_the_next_run(tmp_path):
    seen = set()
    for step in STEPS:
        target = tmp_path / str(step) / "out"
        run(target, seed=1)
        ended = run_killed_at(step, target, seed=2, replace=True)
        leftovers.clear_leftovers(target.parent)
        assert is_complete(target), f"killed at call {step}"
        seen.add(JsonlDatasetStore().read_metadata(target)["seed"])
        assert [one.name for one in target.parent.iterdir()] == ["out"]
        if ended:
            break
    assert seen == {1, 2}


@pytest.mark.usefixtures("two_steps")
@pytest.mark.parametrize("error", [OSError(errno.EIO, "no"), KeyboardInterrupt()])
def test_whatever_ends_a_replacement_between_two_renames_the_old_one_is_put_back(tmp_path, monkeypatch, error):
    run(tmp_path / "out", seed=1)
    real = os.rename

    def rename(old, new):
        if Path(new) == tmp_path / "out" and "partial" in str(old):
            raise error
        real(old, new)

    monkeypatch.setattr(os, "rename", rename)
    with pytest.raises((StorageError, KeyboardInterrupt)):
        run(tmp_path / "out", seed=2, replace=True)
    assert JsonlDatasetStore().read_metadata(tmp_path / "out")["seed"] == 1
    assert [one.name for one in tmp_path.iterdir()] == ["out"]


def test_what_killed_runs_left_is_cleared_by_the_next_run_and_nothing_else(tmp_path):
    living = tmp_path / ".other.0123456789abcdef.moe-partial"
    dead = [
        tmp_path / f".{name}.0123456789abcdef.moe-{role}" for name in ("out", "old") for role in ("partial", "gone")
    ]
    users = [tmp_path / name for name in (".out.partial", ".out.0123456789abcdef.partial", "out.moe-partial")]
    for folder in (living, *dead, *users):
        folder.mkdir()
        (folder / "train.jsonl").write_text("half")
    (tmp_path / ".report.json.0123456789abcdef.moe-partial").write_text("half")
    os.mkfifo(tmp_path / ".pipe.0123456789abcdef.moe-partial")
    descriptor = os.open(living, os.O_RDONLY)
    fcntl.flock(descriptor, fcntl.LOCK_EX)  # as a run holds it that is at work
    run(tmp_path / "out")
    assert is_complete(tmp_path / "out")
    kept = {".pipe.0123456789abcdef.moe-partial", living.name, *(path.name for path in users)}
    assert {one.name for one in tmp_path.iterdir()} == {"out", *kept}
    assert all((path / "train.jsonl").read_text() == "half" for path in (living, *users))
    os.close(descriptor)
    run(tmp_path / "named")
    assert not living.exists()


def test_a_run_killed_anywhere_under_a_default_name_leaves_nothing_after_the_next(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for step in (3, 6, 9, 12):
        assert not run_killed_at(step, None)
    assert list((tmp_path / "datasets").glob(".*"))
    run(tmp_path / "datasets" / "named")
    assert not list((tmp_path / "datasets").glob(".*"))


def test_what_was_just_made_is_not_lost_to_who_clears_leftovers(tmp_path, monkeypatch):
    """Between mkdir and its lock a new folder looks like a leftover; its maker makes another."""
    real, cleared = os.mkdir, []

    def mkdir(path, *args, **options):
        real(path, *args, **options)
        if "moe-partial" in str(path) and not cleared:
            cleared.append(path)
            leftovers.clear_leftovers(tmp_path)
            assert not path.exists()

    monkeypatch.setattr(os, "mkdir", mkdir)
    run(tmp_path / "out")
    assert cleared
    assert is_complete(tmp_path / "out")


@pytest.mark.parametrize("lock", [lambda *_: None, lambda *_: raises(OSError(errno.ENOLCK, "no locks"))])
def test_where_locks_mean_nothing_a_living_run_is_not_taken_for_a_leftover(tmp_path, monkeypatch, lock):
    monkeypatch.setattr(fcntl, "flock", lock)
    store = JsonlDatasetStore()
    with store.reserve(tmp_path / "first"):
        run(tmp_path / "second")
        assert len(list(tmp_path.glob(".first.*"))) == 1
    run(tmp_path / "second", replace=True, seed=2)
    assert [one.name for one in tmp_path.iterdir()] == ["second"]


def race(tmp_path, seeds, work):
    """Run `work` in one process per seed, started together; return their exit codes."""
    children = []
    reading, writing = os.pipe()
    for seed in seeds:
        child = os.fork()
        if not child:
            code = 1
            try:
                os.close(writing)
                os.read(reading, 1)  # the end of the pipe is the common start
                work(seed)
                code = 0
            except TargetExistsError:
                code = 3
            except MoeRouterError:
                code = 4
            finally:
                os._exit(code)
        children.append(child)
    os.close(writing)
    codes = [os.WEXITSTATUS(os.waitpid(child, 0)[1]) for child in children]
    os.close(reading)
    return codes


@pytest.mark.parametrize("locks", [True, False])
@pytest.mark.parametrize("atomic", [True, False])
def test_runs_that_replace_one_target_at_once_leave_one_complete_data_set(tmp_path, monkeypatch, locks, atomic):
    run(tmp_path / "out", seed=100)
    if not locks:
        monkeypatch.setattr(fcntl, "flock", lambda *_: None)  # granted to everyone
    if not atomic:
        monkeypatch.setattr(renames, "_renameat2", lambda *_: False)
    for turn in range(6 if EVERYTHING else 2):
        seeds = range(turn * 4, turn * 4 + 4)
        codes = race(tmp_path, seeds, lambda seed: run(tmp_path / "out", seed=seed, replace=True))
        assert is_complete(tmp_path / "out")
        assert 0 in codes
        assert set(codes) <= {0, 3, 4}
    monkeypatch.undo()
    leftovers.clear_leftovers(tmp_path)
    assert [one.name for one in tmp_path.iterdir()] == ["out"]


FOREIGN = ("sources/calendar.jsonl", "router-head.safetensors", ".DS_Store")


def test_what_is_not_part_of_the_data_set_keeps_it_from_being_replaced(tmp_path):
    for name in FOREIGN:
        target = tmp_path / name.replace("/", "-") / "out"
        run(target, seed=1)
        (target / name).parent.mkdir(exist_ok=True)
        (target / name).write_text("mine")
        with pytest.raises(TargetExistsError, match=re.escape(name.split("/")[0])):
            run(target, seed=2, replace=True)
        assert (target / name).read_text() == "mine"
        assert JsonlDatasetStore().read_metadata(target)["seed"] == 1


def test_a_readme_that_somebody_wrote_is_kept(tmp_path):
    run(tmp_path / "out")
    (tmp_path / "out" / "README.md").write_text("my notes")
    with pytest.raises(TargetExistsError, match=r"README\.md"):
        run(tmp_path / "out", replace=True)
    assert (tmp_path / "out" / "README.md").read_text() == "my notes"


@pytest.mark.parametrize("atomic", [True, False])
def test_what_is_put_into_a_data_set_while_it_is_replaced_is_given_back(tmp_path, monkeypatch, atomic):
    run(tmp_path / "out", seed=1)
    real, added = renames._renameat2, []

    def renameat2(source, target, flags):
        if not added and target == tmp_path / "out":
            added.append(True)
            (tmp_path / "out" / "thesis.tex").write_text("words")
        return atomic and real(source, target, flags)

    monkeypatch.setattr(renames, "_renameat2", renameat2)
    with pytest.raises(TargetExistsError, match=r"thesis\.tex"):
        run(tmp_path / "out", seed=2, replace=True)
    assert (tmp_path / "out" / "thesis.tex").read_text() == "words"
    assert JsonlDatasetStore().read_metadata(tmp_path / "out")["seed"] == 1
    assert [one.name for one in tmp_path.iterdir()] == ["out"]


def test_a_name_that_appears_while_a_run_works_is_not_replaced(tmp_path):
    store = JsonlDatasetStore()
    with store.reserve(tmp_path / "out") as reserved:
        (tmp_path / "out").mkdir()
        with pytest.raises(TargetExistsError):
            reserved.folder.publish()
    assert list((tmp_path / "out").iterdir()) == []
    assert [one.name for one in tmp_path.iterdir()] == ["out"]


def test_runs_in_the_same_second_all_succeed(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert race(tmp_path, [1] * 6, lambda _: run(None)) == [0] * 6
    names = sorted(one.name for one in (tmp_path / "datasets").iterdir())
    assert names == ["routing_20251124_123456", *(f"routing_20251124_123456_{number}" for number in range(2, 7))]
    assert all(is_complete(tmp_path / "datasets" / name) for name in names)


def test_runs_into_one_target_give_one_data_set_and_one_clear_refusal_each(tmp_path):
    assert sorted(race(tmp_path, range(6), lambda seed: run(tmp_path / "out", seed=seed))) == [0, 3, 3, 3, 3, 3]
    assert is_complete(tmp_path / "out")
    assert [one.name for one in tmp_path.iterdir()] == ["out"]


def test_what_cannot_be_cleared_keeps_no_lock_and_stops_nobody(tmp_path, monkeypatch):
    opened = len(list(Path("/proc/self/fd").iterdir()))
    (tmp_path / ".set.0123456789abcdef.moe-partial").mkdir()
    with monkeypatch.context() as patch:
        patch.setattr(os, "rename", lambda *_: raises(PermissionError(13, "Permission denied")))
        run(tmp_path / "out")
    assert len(list(Path("/proc/self/fd").iterdir())) == opened
    assert leftovers.clear_leftovers(tmp_path) == set()
    assert [one.name for one in tmp_path.iterdir()] == ["out"]


def raises(error):
    raise error
