"""The program's first moment: an interruption during the imports ends it without a traceback."""

from __future__ import annotations

import signal
from typing import NoReturn


def main() -> NoReturn:
    """Import the command line and run it."""
    before = signal.signal(signal.SIGINT, signal.SIG_DFL)  # nothing is to be cleared away yet
    from entrypoints.cli import main as run

    signal.signal(signal.SIGINT, before)
    run()
