"""LLaMA-Factory's ``dataset_info.json``: which file holds a data set, and under which columns and tags.

Covers what decides the prompt: ``file_name``, ``formatting`` ("alpaca", "sharegpt", "openai"), ``columns`` and
``tags``. An entry is looked at only when a source names it, so that no other entry can do harm.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import orjson
from attrs import frozen

from domain.chats import OTHER_ROLES
from domain.conversations import ANSWER_COLUMNS, Layout, RowFormat
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
        file: its file.
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
        content: its entries as they stand there.
    """

    path: Path
    content: Mapping[str, Any]

    @property
    def local(self) -> list[str]:
        """The names of the entries that have a file."""
        return [name for name, entry in self.content.items() if isinstance(_present(entry).get("file_name"), str)]

    def find(self, source: str) -> MappedDataset | None:
        """Return the entry that the user means by a name or by the path of a data set's file, if there is one.

        Raises:
            DataRejectedError: the entry makes no sense; the message names it.
        """
        if source in self.content:
            return self.entry(source)
        wanted = Path(source).resolve()
        names = (name for name in self.local if self._file(name).resolve() == wanted)
        name = next(names, None)
        return None if name is None else self.entry(name)

    def entry(self, name: str) -> MappedDataset:
        """Return an entry by its name; raises DataRejectedError when it makes no sense, UsageError without a file."""
        entry = self.content[name]
        if not isinstance(entry, dict):
            raise DataRejectedError(f"entry {name!r} is not an object", where=self.path)
        entry = _present(entry)
        if (hub := entry.get("hf_hub_url")) and "file_name" not in entry:
            raise UsageError(f"entry {name!r} is on a hub", where=self.path, hint=f"name it hf://datasets/{hub}")
        if not isinstance(entry.get("file_name"), str):
            raise DataRejectedError(f"entry {name!r}: 'file_name' is not a text", where=self.path)
        return MappedDataset(name, self._file(name), _row_format(name, entry, self.path))

    def _file(self, name: str) -> Path:
        return self.path.parent / str(self.content[name]["file_name"])


def read_dataset_info(path: Path) -> DatasetInfo:
    """Read a ``dataset_info.json``.

    Raises:
        MissingFileError: no such file.
        DataRejectedError: it is not a JSON object.
    """
    try:
        content = orjson.loads(path.read_bytes().removeprefix(b"\xef\xbb\xbf"))
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
        raise MissingFileError("no such file", where=path, hint="name a dataset_info.json") from None
    except orjson.JSONDecodeError as error:
        raise DataRejectedError(f"is not JSON: {error}", where=path) from error
    if not isinstance(content, dict):
        raise DataRejectedError("is not a JSON object of data sets", where=path)
    return DatasetInfo(path, content)


def mapped_sources(
    info: DatasetInfo, sources: Mapping[str, Sequence[str]]
) -> dict[str, tuple[tuple[Path, ...], RowFormat | None]]:
    """Return files and format for each adapter's sources, each given as a path or as a name in the file.

    A source that no entry describes is read in the format that its rows show (None).

    Raises:
        UsageError: no source at all is described: the file must be a wrong one. Or two sources of one adapter are
            described differently.
    """
    found = {adapter: [info.find(source) for source in given] for adapter, given in sources.items()}
    if not any(entry for entries in found.values() for entry in entries):
        known = ", ".join(info.local) or "none"
        raise UsageError("describes none of the sources", where=info.path, hint=f"its local data sets: {known}")
    mapped = {}
    for adapter, entries in found.items():
        formats = [None if entry is None else entry.row_format for entry in entries]
        if any(one != formats[0] for one in formats):
            raise UsageError(f"describes the sources of {adapter!r} differently", where=info.path)
        paths = (
            entry.file if entry else Path(source) for entry, source in zip(entries, sources[adapter], strict=True)
        )
        mapped[adapter] = tuple(paths), formats[0]
    return mapped


def _present(entry: Any) -> dict[str, Any]:
    """Return an entry's fields without those that are null."""
    return {key: value for key, value in entry.items() if value is not None} if isinstance(entry, dict) else {}


def _row_format(name: str, entry: dict[str, Any], path: Path) -> RowFormat:
    columns, tags = (_object(name, entry, key, path) for key in ("columns", "tags"))
    named = tuple(columns[key] for key in ("response", "chosen") if key in columns)
    formatting = entry.get("formatting", "alpaca")
    if formatting == "alpaca":
        prompt, query = columns.get("prompt", "instruction"), columns.get("query", "input")
        return RowFormat(layout=Layout.COLUMNS, columns=(prompt, query), answers=named or ANSWER_COLUMNS)
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
        answers=named or ANSWER_COLUMNS,
    )


def _object(name: str, entry: dict[str, Any], key: str, path: Path) -> dict[str, str]:
    value = entry.get(key, {})
    present = _present(value)
    if not isinstance(value, dict) or not all(isinstance(one, str) for one in present.values()):
        raise DataRejectedError(f"entry {name!r}: {key!r} is not an object of texts", where=path)
    return present
