"""A trunk on disk: a router's folder with what it reads of its base model beside it.

``trunk.safetensors`` holds the base model's embeddings and first blocks under their own names, ``trunk.onnx``
computes with them, ``tokenizer.json`` makes tokens, and ``trunk.json`` describes it, with the others' hashes.
"""

from __future__ import annotations

import hashlib
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

import attrs
import cattrs
import orjson
from attrs import field, frozen

from adapters.files.regular_files import SpecialFileError, open_regular, read_regular
from adapters.files.staged_folder import FolderKind, other_entries
from adapters.router.router_folder import router_entries
from domain.errors import DataRejectedError, MissingFileError, StorageError
from domain.features import BaseModel

NOTES: Final = "trunk.json"
WEIGHTS: Final = "trunk.safetensors"
GRAPH: Final = "trunk.onnx"
TOKENIZER: Final = "tokenizer.json"
FORMAT: Final = "moe-router-trunk/1"
_AGAIN: Final = "copy the folder, or make it again with moe-router export --trunk"


@frozen
class Trunk:
    """What ``trunk.json`` says.

    Attributes:
        base: the whole base model.
        depth: the last of the hidden states that it computes, as :class:`domain.features.FeatureTap` counts them.
        max_tokens: most tokens of a text.
        stand_in: the token of a text that has none.
        padding: the token that fills shorter texts of a batch; it is masked.
        files: sha256 of the other files, by name.
        format: name and version of this form.
    """

    base: BaseModel
    depth: int
    max_tokens: int
    stand_in: int
    padding: int
    files: dict[str, str] = field(repr=False)
    format: str = FORMAT

    def to_json(self) -> bytes:
        """Return the content of ``trunk.json``."""
        return orjson.dumps(attrs.asdict(self), option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)


def is_trunk(folder: Path) -> bool:
    """Tell whether a folder is, or claims to be, a trunk."""
    return (folder / NOTES).is_file()


def read_trunk(folder: Path) -> Trunk:
    """Return what a trunk is, all of its files verified.

    Raises:
        MissingFileError: a file is missing.
        DataRejectedError: a file is damaged, or of another form.
        StorageError: the file system refused.
    """
    try:
        trunk = cattrs.structure(orjson.loads(read_regular(folder / NOTES)), Trunk)
        if trunk.format != FORMAT:
            raise DataRejectedError(
                f"a trunk of the form {trunk.format!r}; this version reads {FORMAT!r}", where=folder
            )
        damaged = [name for name in (WEIGHTS, GRAPH, TOKENIZER) if sha256_of(folder / name) != trunk.files.get(name)]
    except FileNotFoundError as error:
        raise MissingFileError(f"{Path(error.filename).name} is missing", where=folder, hint=_AGAIN) from error
    except (orjson.JSONDecodeError, cattrs.BaseValidationError, SpecialFileError) as error:
        raise DataRejectedError(f"{NOTES} is not a trunk's", where=folder, hint=_AGAIN) from error
    except OSError as error:
        raise StorageError(f"cannot read: {error.strerror or error}", where=folder) from error
    if damaged:
        raise DataRejectedError(f"{damaged[0]} is damaged", where=folder, hint=_AGAIN)
    return trunk


def sha256_of(path: Path) -> str:
    """Return a file's hash."""
    with open_regular(path) as opened:
        file: Any = opened  # typeshed asks for readinto, which it has
        return hashlib.file_digest(file, "sha256").hexdigest()


def _foreign(folder: Path) -> list[str]:
    """Return what in the folder is not part of a trunk; everything, when it is not one."""
    names: set[str] = set()
    with suppress(FileNotFoundError, IsADirectoryError, SpecialFileError, ValueError, LookupError, TypeError):
        if orjson.loads(read_regular(folder / NOTES))["format"].startswith("moe-router-trunk/"):
            names = {NOTES, WEIGHTS, GRAPH, TOKENIZER} | router_entries(folder)
    return other_entries(folder, frozenset(names))


TRUNK_FOLDER: Final = FolderKind("a trunk", _foreign, "choose another folder")
