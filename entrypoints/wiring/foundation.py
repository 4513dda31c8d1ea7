"""What every part stands on: settings, time, progress, files, and the frozen base model."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from attrs import field, mutable

from entrypoints.settings import Settings
from entrypoints.terminal import own_drawing

if TYPE_CHECKING:  # every command pays for what is imported here, --help included
    from adapters.base_model.transformers_base import LoadedBase
    from adapters.router.safetensors_router_store import SafetensorsRouterStore
    from application.ports import (
        Clock,
        FeatureExtractor,
        ProgressReporter,
        PromptReader,
    )
    from application.ports.datasets import DatasetStore
    from entrypoints.signals import ProcessInterruption


@mutable(slots=False)
class Foundation:
    """What every part stands on.

    Attributes:
        environment: environment variables; flags override them, they override defaults.
        encode_batch: most prompts that are encoded at a time; None for what fits.
        max_batch: most prompts that are answered at a time; None for what fits.
        quiet: whether long work says nothing where stderr is not a terminal; asked each time that some begins.
    """

    environment: Mapping[str, str] = field(factory=lambda: dict(os.environ))
    encode_batch: int | None = field(default=None, kw_only=True)
    max_batch: int | None = field(default=None, kw_only=True)
    quiet: Callable[[], bool] = field(default=lambda: False, kw_only=True)

    @cached_property
    def clock(self) -> Clock:
        """The system's clock."""
        from adapters.system_clock import SystemClock

        return SystemClock()

    @cached_property
    def progress(self) -> ProgressReporter:
        """Progress on stderr: bars on a terminal, else a few lines."""
        from rich.console import Console

        from adapters.rich_progress import RichProgressReporter

        return RichProgressReporter(Console(file=own_drawing(sys.stderr)), self.quiet)

    @cached_property
    def interruption(self) -> ProcessInterruption:
        """SIGTERM and SIGINT; has no effect before a command enters it."""
        from entrypoints.signals import ProcessInterruption

        return ProcessInterruption()

    @cached_property
    def settings(self) -> Settings:
        """What the environment sets."""
        return Settings.read(self.environment)

    @property
    def cache_dir(self) -> Path:
        """Folder for converted base models and cached features (``MOE_ROUTER_CACHE`` overrides it)."""
        if self.settings.cache is not None:
            return self.settings.cache
        from platformdirs import user_cache_path

        return user_cache_path("moe-lora-router")

    @cached_property
    def datasets(self) -> DatasetStore:
        """Routing data sets on the local file system."""
        from adapters.datasets.jsonl_dataset_store import JsonlDatasetStore

        return JsonlDatasetStore()

    @cached_property
    def routers(self) -> SafetensorsRouterStore:
        """Trained routers on the local file system."""
        from adapters.router.safetensors_router_store import SafetensorsRouterStore

        return SafetensorsRouterStore()

    @cached_property
    def prompt_reader(self) -> PromptReader:
        """Prompts in files, or from standard input."""
        from adapters.datasets.prompt_files import PromptFileReader

        return PromptFileReader()

    def load_base(
        self,
        name_or_path: str | None = None,
        *,
        device: str | None = None,
        max_layer: int | Callable[[int], int] | None = None,
    ) -> LoadedBase:
        """Load the base model: the one named, else the embedded one.

        Args:
            name_or_path: hub id or folder.
            device: for example "cuda"; None takes a GPU when there is one.
            max_layer: load no more than features up to this layer need (such a model cannot generate); also as a
                function of the model's number of blocks.
        """
        from adapters.base_model.transformers_base import load_base

        return load_base(
            name_or_path, cache_dir=self.cache_dir, device=device, progress=self.progress, max_layer=max_layer
        )

    def fetch_base(self, name_or_path: str | None) -> None:
        """Bring a base model's files to this machine without loading them; nothing is done for a folder."""
        if name_or_path is not None:
            from adapters.base_model.hub_snapshot import model_folder

            model_folder(name_or_path)

    def feature_extractor(
        self, base: LoadedBase, *, max_tokens: int = 512, use_cache: bool = True
    ) -> FeatureExtractor:
        """Return the features of a loaded base model, kept on disk under `cache_dir` unless `use_cache` is false.

        The cache pays where the same prompts come again (training, evaluation); a single prompt to route does not.
        """
        from adapters.base_model.feature_cache import CachedFeatureExtractor
        from adapters.base_model.transformers_features import TransformersFeatureExtractor

        extractor = TransformersFeatureExtractor(
            base, max_tokens=max_tokens, max_batch=self.encode_batch, progress=self.progress
        )
        if not use_cache:
            return extractor
        return CachedFeatureExtractor(extractor, self.cache_dir / "features", variant=str(base.model.dtype))

    def check_writable(self, *paths: Path | None, folder: bool = False) -> None:
        """Raise UsageError unless files (or folders) could be written there: for asking before long work."""
        from adapters.files.writable import check_writable

        for path in paths:
            if path is not None:
                check_writable(path, folder=folder)

    def write_file(self, path: Path, content: bytes) -> None:
        """Write a report's file: complete or not at all; raises StorageError."""
        from adapters.files.atomic_files import write_bytes

        write_bytes(path, content)

    def write_files(self, *wanted: tuple[Path | None, Callable[[], bytes]]) -> list[Path]:
        """Write those files of a report that have a path, as `write_file` does; return their paths."""
        saved = []
        for path, content in wanted:
            if path is not None:
                self.write_file(path, content())
                saved.append(path)
        return saved
