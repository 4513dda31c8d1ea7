"""TensorBoard over logs that somebody else writes: on a volume that must be reloaded, or far away."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path, PurePosixPath
from typing import Any

from attrs import field, mutable

from application.ports.publishing import RemoteDatasetStore
from domain.errors import RemoteError

LOCAL = Path("/tmp/tensorboard")  # inside the container
_FRESH = 10.0


@mutable
class LogMirror:
    """Copies event files from a volume to the container's own disk, appending what is new.

    A volume cannot be reloaded while its files are open, and TensorBoard keeps event files open; so it reads copies.

    Attributes:
        volume: the ``modal.Volume``.
        source: where the volume's logs are mounted.
        target: where the copies go.
        fresh: seconds for which a copy is good enough.
    """

    volume: Any
    source: Path
    target: Path = LOCAL
    fresh: float = _FRESH
    _copied_at: float = field(default=float("-inf"), init=False)
    _lock: threading.Lock = field(factory=threading.Lock, init=False)

    def update(self) -> None:
        """Bring the copies up to date, unless that was done a moment ago."""
        with self._lock:
            if time.monotonic() - self._copied_at < self.fresh:
                return
            self._copied_at = time.monotonic()
            with suppress(RuntimeError):  # files are open after all: the next time will do
                self.volume.reload()
            for path in sorted(self.source.rglob("*")):
                if path.is_file():
                    _append_new(path, self.target / path.relative_to(self.source))


@mutable
class RemoteLogs:
    """Copies event files from a volume elsewhere to this machine, appending what is new, again and again.

    Attributes:
        volume: where they are.
        folder: their folder there.
        target: where the copies go.
        every: seconds between two looks.
    """

    volume: RemoteDatasetStore
    folder: str
    target: Path
    every: float = 10.0
    _ended: threading.Event = field(factory=threading.Event, init=False)

    def update(self) -> int:
        """Bring the copies up to date; return how many event files there are. Raises RemoteError."""
        files = [file for file in self.volume.list_files(self.folder) if "tfevents" in file.path]
        for file in files:
            target = self.target / PurePosixPath(file.path).relative_to(self.folder)
            size = target.stat().st_size if target.exists() else 0
            if file.size > size:
                target.parent.mkdir(parents=True, exist_ok=True)
                _append_rest(self.volume.read(file.path), size, target)
        return len(files)

    @contextmanager
    def followed(self) -> Iterator[int]:
        """Copy once, then go on in the background while the context is open; gives the number of event files."""
        found = self.update()
        thread = threading.Thread(target=self._follow, daemon=True)
        thread.start()
        try:
            yield found
        finally:
            self._ended.set()

    def _follow(self) -> None:
        while not self._ended.wait(self.every):
            with suppress(RemoteError, OSError):  # the next look will do
                self.update()


def _append_rest(blocks: Iterable[bytes], skip: int, target: Path) -> None:
    with target.open("ab") as writer:
        for block in blocks:
            writer.write(block[skip:])
            skip = max(0, skip - len(block))


def _append_new(source: Path, target: Path) -> None:
    size = target.stat().st_size if target.exists() else 0
    if source.stat().st_size <= size:
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    with source.open("rb") as reader, target.open("ab") as writer:
        reader.seek(size)
        writer.write(reader.read())


def tensorboard_application(volume: Any, source: Path) -> Callable[[dict[str, Any], Any], Iterable[bytes]]:
    """Return TensorBoard as a WSGI application over the logs in `source`, on `volume`."""
    from tensorboard import default, program
    from tensorboard.backend.application import TensorBoardWSGIApp

    mirror = LogMirror(volume, source)
    mirror.target.mkdir(parents=True, exist_ok=True)
    mirror.update()
    board = program.TensorBoard(plugins=default.get_plugins())
    board.configure(
        argv=["tensorboard", "--logdir", str(mirror.target), "--load_fast", "false", "--reload_interval", "5"]
    )
    # The one part that TensorBoard's own server does not offer to others: its data provider.
    provider, multiplexer = board._make_data_provider()
    serve = TensorBoardWSGIApp(board.flags, board.plugin_loaders, provider, board.assets_zip_provider, multiplexer)

    def application(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        mirror.update()
        answer: Iterable[bytes] = serve(environ, start_response)
        return answer

    return application
