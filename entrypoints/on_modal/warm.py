"""What a container keeps in memory from one call to the next: one base model, and the LoRA adapters in it."""

from __future__ import annotations

import gc
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from attrs import define, evolve, field

if TYPE_CHECKING:
    from adapters.base_model.transformers_base import LoadedBase
    from adapters.lora.peft_engine import PeftEngine
    from application.answering.check_lora_adapters import CheckLoraAdapters, LoraCheck

Files = tuple[tuple[str, int, int], ...]
"""What changes when a folder's files do: their names, sizes and times."""


class NotHeldError(Exception):
    """A call wants something else than what is kept for others, who use it at this moment."""


@define(eq=False)
class Warm:
    """Keeps what was loaded last, for as long as its files stay the same; never two base models at a time.

    Attributes:
        pinned: whether others use what is kept: then it stays, and who wants something else gets NotHeldError.
    """

    pinned: bool = False
    _base: LoadedBase | None = field(default=None, init=False)
    _base_files: tuple[str | None, Files] = field(default=(None, ()), init=False)
    _host: tuple[CheckLoraAdapters, PeftEngine] | None = field(default=None, init=False)
    _check: LoraCheck | None = field(default=None, init=False)
    _lora_files: dict[str, Files] = field(factory=dict, init=False)

    @property
    def is_empty(self) -> bool:
        """Whether nothing is kept."""
        return self._base is None

    def base(self, name: str | None, max_layer: object, load: Callable[[], LoadedBase]) -> LoadedBase:
        """Return the base model that is kept, or load it.

        Args:
            name: hub id or folder; None for the embedded one.
            max_layer: deepest ``hidden_states`` index that is wanted; anything but a number asks for all.
            load: loads it.
        """
        files = (name, files_of(Path(name)) if name else ())
        if self._base is not None and self._base_files == files:
            deep_enough = isinstance(max_layer, int) and len(self._base.blocks) >= max(max_layer, 1)
            if deep_enough or self._base.is_whole:
                return self._base
        self._require_free("base model")
        self.clear()
        self._base, self._base_files = load(), files
        return self._base

    def loras(
        self, folders: Mapping[str, Path], host: Callable[[], tuple[CheckLoraAdapters, PeftEngine]]
    ) -> tuple[LoraCheck, PeftEngine]:
        """Return the findings on LoRA adapters (folders by name), and an engine that holds the sound ones.

        Those that are kept already, and are what they were, are not loaded again. `host` makes the engine on the
        base model that :meth:`base` returned last.
        """
        if self._host is None:
            self._host = host()
        (check, engine), wanted = self._host, {name: files_of(folder) for name, folder in folders.items()}
        if self._check is None or not wanted.items() <= self._lora_files.items():
            self._require_free("LoRA adapters")
            for name in engine.adapters:
                engine.unload(name)
            self._check, self._lora_files = check(folders), wanted
        found = evolve(self._check, diagnoses=tuple(one for one in self._check.diagnoses if one.name in wanted))
        if not engine.is_usable:
            self.clear()
        return found, engine

    def _require_free(self, what: str) -> None:
        if self.pinned:
            raise NotHeldError(f"the endpoint has loaded other {what} than are asked for")

    def clear(self) -> None:
        """Keep nothing, and give the memory free."""
        self._base, self._host, self._check = None, None, None
        self._base_files, self._lora_files = (None, ()), {}
        gc.collect()
        torch: Any = sys.modules.get("torch")
        if torch is not None and torch.cuda.is_available():
            torch.cuda.empty_cache()


def take_from_files(base: LoadedBase) -> None:
    """Copy weights that lie in mapped files: while a file is open, Modal does not reload its volume.

    On a GPU they are copies already.
    """
    for tensor in (*base.model.parameters(), *base.model.buffers()):
        if tensor.device.type == "cpu":
            tensor.data = tensor.data.clone()


def files_of(folder: Path) -> Files:
    """Return what changes when a folder's files do; nothing for what is not here."""
    found = ((str(path.relative_to(folder)), path.stat()) for path in sorted(folder.rglob("*")) if path.is_file())
    return tuple((name, status.st_size, status.st_mtime_ns) for name, status in found)
