"""Routers on the Hugging Face hub, named ``hf://OWNER/NAME`` or ``hf://OWNER/NAME@REVISION``."""

from __future__ import annotations

import re
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

from huggingface_hub import HfApi

from adapters.hub_errors import hub_errors
from adapters.router.router_folder import CARD, CONFIG, WEIGHTS, write_folder
from application.ports import TrainedRouter
from domain.errors import MissingFileError, UsageError

_SCHEME: Final = re.compile(r"hf:/+")  # a path has lost one of the two slashes
_NAME: Final = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*(@[\w./-]+)?")
_FILES: Final = (WEIGHTS, CONFIG, CARD)


def fetch_router(source: Path | str) -> Path:
    """Return the folder of a router in the hub's cache, downloading what is not there.

    Raises:
        UsageError: the name has another form.
        RemoteError: the hub cannot be reached, or does not show the repository to you.
        MissingFileError: what is there is not a router.
    """
    name = _name(source)
    repository, _, revision = name.partition("@")
    with hub_errors("router", f"hf://{name}", "name a file on this disk"):
        folder = Path(
            HfApi().snapshot_download(
                repository, revision=revision or None, allow_patterns=list(_FILES), etag_timeout=5
            )
        )
    if not (folder / WEIGHTS).is_file():
        raise MissingFileError(f"not a router: it has no {WEIGHTS}", where=f"hf://{name}")
    return folder


def push_router(router: TrainedRouter, target: str, *, public: bool, message: str) -> str:
    """Put a router on the hub as one commit, in a repository that is made when it is not there; return its address.

    Args:
        router: the router.
        target: ``OWNER/NAME``, with or without ``hf://``.
        public: whether a new repository can be seen by everyone; one that is there stays as it is.
        message: the commit's.

    Raises:
        UsageError: the name has another form.
        RemoteError: the hub cannot be reached, or refuses.
    """
    name = _name(target)
    if "@" in name:
        raise UsageError("a revision is made by the hub, not named", where=f"hf://{name}", hint="leave out @…")
    hub = HfApi()
    with TemporaryDirectory() as temporary:
        folder = Path(temporary) / "router"
        write_folder(router, folder)
        with hub_errors("router", f"hf://{name}", "write a folder with `moe-router export`"):
            hub.create_repo(name, private=not public, exist_ok=True)
            done = hub.upload_folder(
                repo_id=name, folder_path=folder, allow_patterns=list(_FILES), commit_message=message
            )
    return str(done.commit_url)


def _name(source: Path | str) -> str:
    name = _SCHEME.sub("", str(source)).strip("/")
    if not _NAME.fullmatch(name):
        raise UsageError("not the name of a router on the hub", where=source, hint="hf://OWNER/NAME[@REVISION]")
    return name
