"""Data sets on the Hugging Face hub, fetched only when a source says ``hf://``."""

from __future__ import annotations

from fnmatch import fnmatch
from pathlib import Path

from huggingface_hub import HfApi, hf_hub_download

from adapters.datasets.source_files import choose_shards
from adapters.hub_errors import hub_errors
from domain.errors import MissingFileError, UsageError


def fetch_dataset(name: str) -> tuple[Path, ...]:
    """Return a data set's files in the hub's cache, downloading what is not there.

    Args:
        name: ``OWNER/NAME``, maybe with ``@REVISION``, maybe with ``/`` and a file, a folder or a glob in it.

    Raises:
        UsageError: the name has another form.
        RemoteError: the hub cannot be reached, or does not show the data set to you.
        MissingFileError: it has no such file.
    """
    parts = name.strip("/").split("/", 2)
    where = f"hf://datasets/{name}"
    if len(parts) < 2 or not all(parts):
        raise UsageError("is not a data set's name", where=where, hint="hf://datasets/OWNER/NAME[@REVISION][/FILE]")
    repository, _, revision = f"{parts[0]}/{parts[1]}".partition("@")
    inside = parts[2] if len(parts) > 2 else ""
    with hub_errors("data set", where, "name files on this disk"):
        found = HfApi().dataset_info(repository, revision=revision or None, timeout=10)  # one request, no retries
        wanted = _chosen([file.rfilename for file in found.siblings or ()], inside)
        if not wanted:
            raise MissingFileError(f"has no data files{f' at {inside}' if inside else ''}", where=where)
        return tuple(
            Path(hf_hub_download(repository, file, repo_type="dataset", revision=revision or None, etag_timeout=5))
            for file in wanted
        )


def _chosen(files: list[str], inside: str) -> list[str]:
    if inside in files:
        return [inside]
    if any(letter in inside for letter in "*?["):
        return sorted(file for file in files if fnmatch(file, inside))
    folder = f"{inside.rstrip('/')}/" if inside else ""
    return choose_shards(file for file in files if file.startswith(folder))
