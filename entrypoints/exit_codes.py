"""What a command's exit status says; the README lists the same codes."""

from __future__ import annotations

from typing import Final

from domain.errors import (
    DataRejectedError,
    InterruptedRunError,
    MissingFileError,
    MoeRouterError,
    RemoteError,
    TrainingDivergedError,
    UsageError,
)

EXIT_CODES: Final[tuple[tuple[type[MoeRouterError], int], ...]] = (
    (UsageError, 2),
    (MissingFileError, 2),
    (DataRejectedError, 3),
    (TrainingDivergedError, 4),
    (RemoteError, 5),
)


def exit_code(error: MoeRouterError) -> int:
    """Return the exit code of a user's error: 1 unless its kind has its own."""
    if isinstance(error, InterruptedRunError):
        return 128 + error.signal_number
    return next((code for kind, code in EXIT_CODES if isinstance(error, kind)), 1)
