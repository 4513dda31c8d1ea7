"""Logging: readable on a terminal, JSON lines otherwise, always on stderr."""

from __future__ import annotations

import logging
import sys


def set_up_logs(level: str = "warning") -> None:
    """Configure structlog for this process.

    Args:
        level: "debug", "info", "warning" or "error"; events below it are dropped.
    """
    import structlog  # a tenth of a second, which --help need not wait for

    on_terminal = sys.stderr.isatty()
    renderer: structlog.types.Processor = (
        structlog.dev.ConsoleRenderer(colors=False) if on_terminal else structlog.processors.JSONRenderer()
    )
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=not on_terminal),
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[level.upper()]),
        logger_factory=structlog.WriteLoggerFactory(file=sys.stderr),
        cache_logger_on_first_use=False,
    )
