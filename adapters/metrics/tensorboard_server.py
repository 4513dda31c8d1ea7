"""TensorBoard's own web server, in this process."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

from tensorboard import default, program

from domain.errors import UsageError


def serve(folder: Path, host: str, port: int) -> tuple[str, Callable[[], object]]:
    """Start serving a folder of runs; needs no network beyond the address it listens on.

    Args:
        folder: folder of the runs.
        host: address to listen on.
        port: port to listen on; 0 takes a free one.

    Returns:
        The URL, and a function that waits until the process is interrupted.

    Raises:
        UsageError: the address cannot be listened on.
    """
    server = program.TensorBoard(plugins=default.get_plugins())
    server.configure(
        argv=["tensorboard", "--logdir", str(folder), "--host", host, "--port", str(port), "--load_fast", "false"]
    )
    try:
        url = server.launch()
    except program.TensorBoardServerException as error:
        raise UsageError(f"cannot serve: {error}", where=f"{host}:{port}", hint="try another --port") from error
    return url, threading.Event().wait
