"""The options that say how an adapter's own training data is read, shared by the commands that draw from it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import click

from application.ports.datasets import Source
from domain.conversations import RowFormat
from domain.errors import UsageError
from domain.labels import check_adapter_name
from domain.turns import TurnChoice

Command = TypeVar("Command", bound=Callable[..., Any])
MIB = 1024 * 1024

_OPTIONS = (
    click.option(
        "--columns",
        metavar="[NAME:]prompt=COLUMN[,…]",
        multiple=True,
        help="Columns of odd names, of all adapters or of NAME: prompt (and input), or messages (and role, content: "
        "the turns' fields; user, assistant: their names); answer, where a column of its own holds it.",
    ),
    click.option(
        "--dataset-info",
        type=click.Path(path_type=Path),
        metavar="FILE",
        help="LLaMA-Factory's dataset_info.json: its column and tag mappings; PATH may then be a name in it.",
    ),
    click.option("--line-limit", default=16 * MIB, metavar="BYTES", help="Reject longer lines unread."),
)


def source_options(command: Command) -> Command:
    """Add the options to a command."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def make_sources(
    paths: Mapping[str, Sequence[str]],
    *,
    columns: Sequence[str] = (),
    dataset_info: Path | None = None,
    line_limit: int = 16 * MIB,
    turn: TurnChoice = TurnChoice.LAST,
) -> list[Source]:
    """Return the adapters' sources.

    Args:
        paths: each adapter's files, folders, globs or names in the ``dataset_info.json``; at least one.
        columns: values of ``--columns``.
        dataset_info: a ``dataset_info.json``.
        line_limit: bytes above which a line is rejected.
        turn: which human turns make the routing text.

    Raises:
        UsageError: the columns or the ``dataset_info.json`` do not fit.
    """
    formats = _formats(columns, paths)
    mapped: dict[str, tuple[tuple[Path, ...], RowFormat | None]]
    if dataset_info is None:
        mapped = {name: (tuple(map(_path, given)), None) for name, given in paths.items()}
    else:
        from adapters.datasets.llamafactory_dataset_info import mapped_sources, read_dataset_info

        mapped = mapped_sources(read_dataset_info(dataset_info), paths)
    return [
        Source(name, first, formats.get(name, row_format), turn, line_limit, tuple(more))
        for name, ((first, *more), row_format) in mapped.items()
    ]


def _path(text: str) -> Path:
    """Return the path; shells leave the ``~/`` of ``NAME=~/FILE`` to us."""
    return Path(text).expanduser() if text.startswith("~/") else Path(text)


def _formats(values: Sequence[str], names: Mapping[str, object]) -> dict[str, RowFormat]:
    from domain.row_shapes import columns_format

    named: dict[str, dict[str, str]] = {name: {} for name in names}
    for value in values:
        name, colon, _ = value.partition("=")[0].partition(":")
        pairs = value[len(name + colon) :] if colon else value
        if colon and check_adapter_name(name) not in named:
            raise UsageError(f"--columns names {name!r}, which is not among the adapters")
        for pair in pairs.split(","):
            meaning, equals, column = (part.strip() for part in pair.partition("="))
            if not (equals and meaning and column):
                raise UsageError(f"--columns {value!r} is not like prompt=COLUMN")
            for one in [name] if colon else names:
                named[one][meaning] = column
    return {name: columns_format(columns) for name, columns in named.items() if columns}
