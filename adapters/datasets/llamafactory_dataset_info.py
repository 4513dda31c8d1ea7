"""LLaMA-Factory's ``dataset_info.json``: which file holds a data set, and under which columns and tags.

Covers what decides the prompt: ``file_name``, ``formatting`` ("alpaca", "sharegpt", "openai"), ``columns`` and
``tags``. Not covered: data on a hub, ranking and media columns, and files that are one JSON array.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import orjson
from attrs import frozen

from domain.conversations import OTHER_ROLES, Layout, RowFormat
from domain.errors import DataRejectedError, MissingFileError, UsageError

_TAGS = {
    "sharegpt": ("conversations", "from", "value", "human"),
    "openai": ("messages", "role", "content", "user"),
}


@frozen
class MappedDataset:
    """One entry of the file.

    Attributes:
        name: the data set's name.
        file: its JSONL file.
        row_format: where its rows keep their conversation.
    """

    name: str
    file: Path
    row_format: RowFormat


@frozen
class DatasetInfo:
    """The data sets that a ``dataset_info.json`` maps.

    Attributes:
        path: the file.
        entries: its local data sets by name.
    """

    path: Path
    entries: Mapping[str, MappedDataset]

    def find(self, source: str) -> MappedDataset | None:
        """Return the entry that the user means by a name or by the path of a data set's file, if there is one."""
        if source in self.entries:
            return self.entries[source]
        wanted = Path(source).resolve()
        return next((entry for entry in self.entries.values() if entry.file.resolve() == wanted), None)


def read_dataset_info(path: Path) -> DatasetInfo:
    """Read a ``dataset_info.json``.

    Raises:
        MissingFileError: no such file.
        DataRejectedError: it is no JSON object of objects, or an entry makes no sense; the message names it.
    """
    try:
        content = orjson.loads(path.read_bytes())
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
        raise MissingFileError("no such file", where=path, hint="name a dataset_info.json") from None
    except orjson.JSONDecodeError as error:
        raise DataRejectedError(f"is no JSON: {error}", where=path) from error
    if not isinstance(content, dict):
        raise DataRejectedError("is no JSON object of data sets", where=path)
    entries = {}
    for name, entry in content.items():
        if not isinstance(entry, dict):
            raise DataRejectedError(f"entry {name!r} is no object", where=path)
        if "file_name" in entry:
            entries[name] = MappedDataset(
                name, path.parent / _text(entry, "file_name", path), _row_format(name, entry, path)
            )
    return DatasetInfo(path, entries)


def mapped_sources(info: DatasetInfo, sources: Mapping[str, str]) -> dict[str, tuple[Path, RowFormat]]:
    """Return file and format for each adapter's source, given as a path or as a name in the file.

    A source that no entry describes is read in the default formats.

    Raises:
        UsageError: no source at all is described: the file must be a wrong one.
    """
    found = {adapter: info.find(source) for adapter, source in sources.items()}
    if not any(found.values()):
        known = ", ".join(info.entries) or "none"
        raise UsageError("describes none of the sources", where=info.path, hint=f"its local data sets: {known}")
    return {
        adapter: (entry.file, entry.row_format) if entry else (Path(sources[adapter]), RowFormat())
        for adapter, entry in found.items()
    }


def _row_format(name: str, entry: dict[str, Any], path: Path) -> RowFormat:
    columns, tags = (_object(name, entry, key, path) for key in ("columns", "tags"))
    formatting = entry.get("formatting", "alpaca")
    if formatting == "alpaca":
        prompt, query = columns.get("prompt", "instruction"), columns.get("query", "input")
        return RowFormat(layout=Layout.COLUMNS, columns=(prompt, query))
    if formatting not in _TAGS:
        raise DataRejectedError(
            f"entry {name!r} has the unknown formatting {formatting!r}", where=path, hint="alpaca, sharegpt or openai"
        )
    messages, role, content, user = _TAGS[formatting]
    user_role = tags.get("user_tag", user).strip().casefold()
    others = {
        tag.strip().casefold() for key, tag in tags.items() if key not in ("role_tag", "content_tag", "user_tag")
    }
    return RowFormat(
        columns=(columns.get("messages", messages),),
        role_tags=(tags.get("role_tag", role),),
        content_tags=(tags.get("content_tag", content),),
        user_roles=frozenset({user_role}),
        other_roles=(OTHER_ROLES | others) - {user_role},
    )


def _object(name: str, entry: dict[str, Any], key: str, path: Path) -> dict[str, str]:
    value = entry.get(key, {})
    if not isinstance(value, dict) or not all(isinstance(one, str) for one in value.values()):
        raise DataRejectedError(f"entry {name!r}: {key!r} is no object of texts", where=path)
    return value


def _text(entry: dict[str, Any], key: str, path: Path) -> str:
    if not isinstance(entry[key], str):
        raise DataRejectedError(f"{key!r} is no text: {entry[key]!r}", where=path)
    return str(entry[key])
