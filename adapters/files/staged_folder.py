"""A folder that appears complete or not at all, whatever happens on the way.

The name is reserved by ``mkdir`` of a hidden sibling, ``.<name>.partial``, with a lock on it that dies with its
maker, see :mod:`adapters.files.folder_locks`. The files are written into it and synced; one rename gives it its name.
What is not covered: two machines that write to one network file system without working locks.
"""

from __future__ import annotations

import ctypes
import errno
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from itertools import count
from pathlib import Path

from attrs import define

from adapters.files.folder_locks import lock_new_folder
from domain.errors import MoeRouterError, StorageError, TargetExistsError


@define
class StagedFolder:
    """A reserved name with the hidden folder that becomes it.

    Attributes:
        target: the name that the folder will get.
        staging: the hidden folder, beside it.
        replace: whether a folder under the name is replaced by `publish`.
        published: whether it got its name.
    """

    target: Path
    staging: Path
    replace: bool
    published: bool = False

    def write(self, name: str, content: bytes) -> None:
        """Write one file and sync it to the disk."""
        descriptor = os.open(self.staging / name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
        try:
            view = memoryview(content)
            while view:
                view = view[os.write(descriptor, view) :]
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def publish(self) -> None:
        """Give the folder its name; from here on it is there, complete."""
        _sync_folder(self.staging)
        if self.replace and os.path.lexists(self.target):
            _exchange(self.staging, self.target)
            self.published = True
            with suppress(OSError):  # the old content, now under the hidden name; the new stands either way
                shutil.rmtree(self.staging)
        else:
            os.rename(self.staging, self.target)  # noqa: PTH104 - the tests kill us at calls of os, by name
            self.published = True
        _sync_folder(self.target.parent)


@contextmanager
def staged_folder(
    target: Path,
    *,
    unique: bool = False,
    replaceable: Callable[[Path], bool] | None = None,
    replace: bool = True,
) -> Iterator[StagedFolder]:
    """Reserve a name; without `publish`, leaving the context leaves nothing behind.

    Args:
        target: the name.
        unique: when the name is taken, take ``<target>_2``, ``_3`` … instead of refusing.
        replaceable: tells whether the folder that is there may be replaced; None to replace nothing.
        replace: whether that was asked for; otherwise the error only tells that it could be.

    Raises:
        TargetExistsError: the name is taken.
        StorageError: the file system refused; the message names the path.
    """
    made: list[Path] = []
    published = False
    try:
        with _translated(target):
            _make_parents(target.parent, made)
            folder, lock = _reserve(target, unique, replaceable, replace)
        try:
            with _translated(folder.target):
                yield folder
        finally:
            published = folder.published
            if not published:
                shutil.rmtree(folder.staging, ignore_errors=True)
            os.close(lock)
    finally:
        if not published:
            _remove_empty(made)


@contextmanager
def _translated(path: Path) -> Iterator[None]:
    try:
        yield
    except MoeRouterError:  # some of them are OSErrors, too
        raise
    except OSError as error:
        raise storage_error(error, path) from error


def storage_error(error: OSError, path: Path) -> StorageError:
    """Return what the file system refused as an error for the user."""
    return StorageError(f"cannot write: {error.strerror or error}", where=path, hint=_HINTS.get(error.errno or 0))


_HINTS = {
    errno.ENOSPC: "free some space or choose another --output-dir",
    errno.EROFS: "choose a --output-dir that can be written to",
    errno.EACCES: "choose a --output-dir that can be written to",
    errno.ENOTDIR: "a part of the path is a file; choose another --output-dir",
}


def _reserve(
    target: Path, unique: bool, replaceable: Callable[[Path], bool] | None, replace: bool
) -> tuple[StagedFolder, int]:
    for number in count(1):
        name = target if number == 1 else target.with_name(f"{target.name}_{number}")
        try:
            return _reserve_one(name, replaceable, replace)
        except TargetExistsError:
            if not unique:
                raise
    raise AssertionError("count() has no end")


def _reserve_one(target: Path, replaceable: Callable[[Path], bool] | None, replace: bool) -> tuple[StagedFolder, int]:
    if target.name in ("", ".."):  # the working folder, its parent, the root
        raise TargetExistsError("already exists", where=target, hint="choose another --output-dir")
    staging = target.with_name(f".{target.name}.partial")
    lock = lock_new_folder(staging)
    if lock is None:
        raise TargetExistsError("another run is writing here", where=target, hint="choose another --output-dir")
    try:
        _check_target(target, replaceable, replace)  # only now: who held the name before us may just have published
    except BaseException:
        with suppress(OSError):
            staging.rmdir()
        os.close(lock)
        raise
    return StagedFolder(target, staging, replace=replace and replaceable is not None), lock


def _check_target(target: Path, replaceable: Callable[[Path], bool] | None, replace: bool) -> None:
    if not os.path.lexists(target):
        return
    if target.is_symlink():
        raise TargetExistsError("is a symbolic link", where=target, hint="name the folder itself")
    if replaceable is None or not replace:
        could = False
        with suppress(OSError):  # a folder that cannot be looked into is there all the same
            could = replaceable is not None and replaceable(target)
        raise TargetExistsError("already exists", where=target, hint="choose another --output-dir", replaceable=could)
    if not replaceable(target):
        raise TargetExistsError(
            "is no routing data set, so --force does not replace it", where=target, hint="choose another --output-dir"
        )


def _make_parents(folder: Path, made: list[Path]) -> None:
    """Make the folder with its parents; put those that were not there into `made`, innermost first."""
    missing = []
    while not folder.exists():
        missing.append(folder)
        folder = folder.parent
    for one in reversed(missing):
        one.mkdir(exist_ok=True)
        made.insert(0, one)


def _remove_empty(folders: list[Path]) -> None:
    with suppress(OSError):  # not empty: somebody else uses it by now
        for folder in folders:
            folder.rmdir()


def _sync_folder(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _exchange(new: Path, old: Path) -> None:
    """Swap two folders in one step, so that the name is never missing; in two steps where the system cannot."""
    with suppress(AttributeError):  # no renameat2 in this C library
        at_fdcwd, rename_exchange = -100, 2
        if (
            ctypes.CDLL(None, use_errno=True).renameat2(
                at_fdcwd, os.fsencode(new), at_fdcwd, os.fsencode(old), rename_exchange
            )
            == 0
        ):
            return
        if ctypes.get_errno() not in (errno.EINVAL, errno.ENOSYS):
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()), str(old))
    aside = new.with_name(f"{new.name}.old")
    os.rename(old, aside)  # noqa: PTH104
    os.rename(new, old)  # noqa: PTH104
    os.rename(aside, new)  # noqa: PTH104
