"""The operating system's clock."""

from __future__ import annotations

from datetime import UTC, datetime


class SystemClock:
    """A :class:`application.ports.Clock` that gives the real time, in the local time zone."""

    def now(self) -> datetime:
        """Return the current time with the local time zone."""
        return datetime.now(UTC).astimezone()
