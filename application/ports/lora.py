"""The port that reads LoRA adapters' files without running them."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from domain.features import BaseModel
from domain.lora import LoraFacts, ModuleShapes


class LoraInspector(Protocol):
    """Reads LoRA adapters for one base model. Runs no code of theirs; safetensors only."""

    @property
    def base(self) -> BaseModel:
        """The base model that they are to fit."""
        ...

    @property
    def modules(self) -> ModuleShapes:
        """The base model's layers that can carry LoRA matrices."""
        ...

    def inspect(self, folder: Path) -> LoraFacts:
        """Return what a LoRA adapter's folder holds.

        Raises:
            MissingFileError: no such folder, or a file of it is missing.
            LoraAdapterError: a file that is damaged, unsafe (a pickle under any name) or of another format.
        """
        ...
