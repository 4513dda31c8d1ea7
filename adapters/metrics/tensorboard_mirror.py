"""TensorBoard over logs that somebody else writes: on a volume that must be reloaded, or far away."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

from attrs import field, mutable

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
