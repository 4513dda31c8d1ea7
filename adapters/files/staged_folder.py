"""A folder that appears complete or not at all, whatever happens on the way.

The files are written into a hidden folder of its own, see :mod:`adapters.files.leftovers`, and synced; one rename
gives it its name, and never replaces what the run was not told to replace. A folder that is replaced is exchanged
in one step, looked at once more, and given back when it holds anything that this program did not write.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager, suppress
from itertools import count
from pathlib import Path

from attrs import define, frozen

from adapters.files.atomic_files import sync, write_all
from adapters.files.leftovers import clear_leftovers, guarded, hidden, hidden_name
from adapters.files.renames import exchange, rename_new
from domain.errors import MoeRouterError, StorageError, TargetExistsError

_BUSY = "another run is writing here"


@frozen
class FolderKind:
    """A kind of folder that this program writes, and may therefore replace.

    Attributes:
        name: what it is called, with its article.
        foreign: returns what in a folder is not part of one, by name; an empty folder holds nothing foreign.
        hint: what to do when the name is taken, or cannot be written to.
    """

    name: str
    foreign: Callable[[Path], Sequence[str]]
    hint: str = "choose another folder"


def other_entries(folder: Path, names: frozenset[str]) -> list[str]:
    """Return what in a folder is not a regular file of one of these names."""
    with os.scandir(folder) as entries:
        return sorted(
            entry.name for entry in entries if entry.name not in names or not entry.is_file(follow_symlinks=False)
        )


@define
class StagedFolder:
    """A hidden folder that becomes `target`.

    Attributes:
        target: the name that the folder will get; `publish` may change its number.
        staging: the hidden folder, beside it; fill it with files.
        kind: what it is.
        replace: whether a folder of this kind that has the name is replaced.
        unique: the name without a number, when a taken name gets one.
        published: whether it got its name.
    """

    target: Path
    staging: Path
    kind: FolderKind
    replace: bool
    unique: Path | None
    published: bool = False

    def write(self, name: str, content: bytes) -> None:
        """Write one file."""
        write_all(self.staging / name, content, os.O_CREAT | os.O_EXCL)

    def publish(self) -> None:
        """Sync everything and give the folder its name; from here on it is there, complete."""
        for path in sorted(self.staging.iterdir()):
            sync(path)
        sync(self.staging)
        if self.replace and os.path.lexists(self.target):
            self._replace()
        else:
            self._take_name()
        sync(self.target.parent)

    def _take_name(self) -> None:
        while True:
            try:
                rename_new(self.staging, self.target)
            except FileExistsError:
                if self.unique is None:
                    raise TargetExistsError("already exists", where=self.target, hint=self.kind.hint) from None
                self.target = _free_name(self.unique)
            else:
                self.published = True
                return

    def _replace(self) -> None:
        with guarded(self.target) as ours:
            if not ours:
                raise TargetExistsError(_BUSY, where=self.target, hint=self.kind.hint)
            check_replaceable(self.target, self.kind)
            try:
                old = exchange(self.staging, self.target, lambda: hidden_name(self.target, "aside"))
            except FileExistsError:
                raise TargetExistsError(_BUSY, where=self.target, hint=self.kind.hint) from None
            try:
                check_replaceable(old, self.kind, where=self.target)  # somebody may have put something in meanwhile
            except BaseException:
                new = exchange(old, self.target, lambda: hidden_name(self.target))
                if new != self.staging:  # which is removed anyway
                    _remove(new)
                raise
            self.published = True
            with suppress(OSError):  # the new one stands either way
                _remove(old)


def _remove(folder: Path) -> None:
    """Remove a folder of files, one by one: anything else that is in it stays."""
    for path in folder.iterdir():
        path.unlink()
    folder.rmdir()


@contextmanager
def staged_folder(
    target: Path, kind: FolderKind, *, unique: bool = False, replace: bool = False
) -> Iterator[StagedFolder]:
    """Open a hidden folder; without `publish`, leaving the context leaves nothing behind.

    Args:
        target: the name.
        kind: what it will be.
        unique: when the name is taken, take ``<target>_2``, ``_3`` … instead of refusing.
        replace: replace a folder of this kind that has the name. It must hold nothing else.

    Raises:
        TargetExistsError: the name is taken.
        StorageError: the file system refused; the message names the path.
    """
    made: list[Path] = []
    folder: StagedFolder | None = None
    try:
        with _translated(target, kind):
            _make_parents(target.parent, made)
            busy = clear_leftovers(target.parent)
            name = _free_name(target, busy) if unique else _checked(target, kind, replace, busy)
            with hidden(name, folder=True) as staging:
                folder = StagedFolder(name, staging, kind, replace, target if unique else None)
                yield folder
    finally:
        if folder is None or not folder.published:
            _remove_empty(made)


def check_replaceable(folder: Path, kind: FolderKind, *, where: Path | None = None) -> None:
    """Raise TargetExistsError when there is anything but a folder of this kind, naming what keeps it from being one.

    Args:
        folder: the folder, which need not be there.
        kind: what it must be.
        where: how it is called in the error.
    """
    where = where or folder
    if folder.is_symlink():
        raise TargetExistsError("is a symbolic link", where=where, hint="name the folder itself")
    if not folder.is_dir():
        if folder.exists():
            raise TargetExistsError("is not a folder", where=where, hint=kind.hint)
        return
    if foreign := kind.foreign(folder):
        more = f" and {len(foreign) - 5} more" if len(foreign) > 5 else ""
        raise TargetExistsError(
            f"is not replaced: it holds what is not part of {kind.name}: {', '.join(foreign[:5])}{more}",
            where=where,
            hint=f"move that away, or {kind.hint}",
        )


@contextmanager
def _translated(path: Path, kind: FolderKind) -> Iterator[None]:
    try:
        yield
    except MoeRouterError:  # some of them are OSErrors, too
        raise
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        raise StorageError(
            f"cannot write: {error.strerror or error}",
            where=path,
            hint=f"free some space, or {kind.hint}" if full else kind.hint,
        ) from error


def _checked(target: Path, kind: FolderKind, replace: bool, busy: Collection[str]) -> Path:
    if target.name in ("", ".."):  # the working folder, its parent, the root
        raise TargetExistsError("already exists", where=target, hint=kind.hint)
    if target.name in busy:
        raise TargetExistsError(_BUSY, where=target, hint=kind.hint)
    if not _is_taken(target):
        return target
    if not replace:
        could = False
        with suppress(OSError, TargetExistsError):  # a folder that cannot be looked into is there all the same
            check_replaceable(target, kind)
            could = True
        what = "is a symbolic link" if target.is_symlink() else "already exists"
        raise TargetExistsError(what, where=target, hint=kind.hint, replaceable=could)
    check_replaceable(target, kind)
    return target


def _free_name(target: Path, busy: Collection[str] = ()) -> Path:
    for number in count(1):
        name = target if number == 1 else target.with_name(f"{target.name}_{number}")
        if name.name not in busy and not _is_taken(name):
            return name
    raise AssertionError("count() has no end")


def _is_taken(name: Path) -> bool:
    """Tell whether there is anything; raises OSError for a name that cannot be."""
    try:
        name.lstat()
    except FileNotFoundError:
        return False
    return True


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
