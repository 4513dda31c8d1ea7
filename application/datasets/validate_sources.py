"""Parsing every line of a source, to say all that is wrong with it."""

from __future__ import annotations

from collections.abc import Iterable

from application.datasets.dataset_request import ValidatedSource
from application.datasets.draw_balanced import RejectLog
from application.ports.datasets import ParsedLine, Source
from domain.conversations import Rejection
from domain.datasets import RejectedLine
from domain.errors import DataRejectedError


def validate_source(
    source: Source, lines: Iterable[ParsedLine], *, strict: bool
) -> tuple[ValidatedSource, list[RejectedLine]]:
    """Count the lines of one source by what they are.

    Returns:
        The counts, and the first rejected lines in file order.

    Raises:
        DataRejectedError: a line is rejected and `strict` is set; the message names file, line and reason.
    """
    log = RejectLog(source)
    total = usable = blank = 0
    for number, outcome, origin in lines:
        total += 1
        if type(outcome) is str:  # a str in nearly every line of nearly every file; this loop is hot
            usable += 1
        elif isinstance(outcome, Rejection):
            log.add(number, outcome, origin)
            if strict:
                raise DataRejectedError(
                    f"{origin.place(number)}: {outcome.reason}: {outcome.detail}",
                    where=origin.path,
                    hint="mend the line, or let such lines be skipped (without `strict`)",
                )
        else:
            blank += 1
    found = ValidatedSource(
        adapter=source.adapter, lines=total, usable=usable, blank=blank, rejected=dict(sorted(log.counts.items()))
    )
    return found, log.first
