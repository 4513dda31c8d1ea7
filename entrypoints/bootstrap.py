"""The composition root: the one place where ports meet their adapters.

Every method builds one use case or adapter and imports what it needs when it is called, so that nothing heavy
loads before it is used. To replace a dependency, subclass and override its method.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from attrs import field, mutable

if TYPE_CHECKING:  # every command pays for what is imported here, --help included
    from adapters.base_model.transformers_base import LoadedBase
    from adapters.lora.peft_finetuning import FinetuneOptions, PeftFinetuner
    from adapters.modal_cloud.modal_answering import ModalAnswering
    from adapters.modal_cloud.modal_evaluation import ModalRouterEvaluation
    from adapters.modal_cloud.modal_gpu_trainer import ModalGpuTrainer
    from adapters.modal_cloud.modal_jobs import ModalJobs
    from adapters.router.safetensors_router_store import SafetensorsRouterStore
    from application.answering.answer_file import AnswerFileReport
    from application.answering.answer_prompts import AnswerPrompts
    from application.answering.check_lora_adapters import CheckLoraAdapters
    from application.datasets.download import DownloadDataset, DownloadRouter
    from application.datasets.generate_dataset import GenerateDataset
    from application.datasets.grow_dataset import AddToDataset, RemoveFromDataset
    from application.datasets.inspect_dataset import InspectDataset
    from application.datasets.list_datasets import ListDatasets
    from application.datasets.publish_dataset import PlanPublication, PublishDataset
    from application.datasets.verify_dataset import VerifyDataset
    from application.ports import (
        Clock,
        FeatureExtractor,
        Interruption,
        ProgressReporter,
        PromptReader,
        RouterTrainer,
        TrainedRouter,
    )
    from application.ports.datasets import DatasetStore
    from application.ports.publishing import RemoteDatasetStore
    from application.routing.evaluate_router import EvaluateRouter
    from application.routing.route_prompts import RoutePrompts
    from application.training.fit_router import FitRouter
    from application.training.grow_router import GrowRouter
    from application.training.train_router import TrainRouter
    from domain.answers import Fallback, GenerationOptions
    from entrypoints.signals import ProcessInterruption


@mutable(slots=False)
class Application:
    """Builds use cases out of ports and adapters.

    Attributes:
        environment: environment variables; flags override them, they override defaults.
    """

    environment: Mapping[str, str] = field(factory=lambda: dict(os.environ))

    @cached_property
    def clock(self) -> Clock:
        """The system's clock."""
        from adapters.system_clock import SystemClock

        return SystemClock()

    @cached_property
    def progress(self) -> ProgressReporter:
        """Progress bars on stderr, silent when it is no terminal."""
        from adapters.rich_progress import RichProgressReporter

        return RichProgressReporter()

    @cached_property
    def interruption(self) -> ProcessInterruption:
        """SIGTERM and SIGINT; has no effect before a command enters it."""
        from entrypoints.signals import ProcessInterruption

        return ProcessInterruption()

    @property
    def cache_dir(self) -> Path:
        """Folder for converted base models and cached features (``MOE_ROUTER_CACHE`` overrides it)."""
        if override := self.environment.get("MOE_ROUTER_CACHE"):
            return Path(override)
        from platformdirs import user_cache_path

        return user_cache_path("moe-lora-router")

    @cached_property
    def datasets(self) -> DatasetStore:
        """Routing data sets on the local file system."""
        from adapters.datasets.jsonl_dataset_store import JsonlDatasetStore

        return JsonlDatasetStore()

    def generate_dataset(self) -> GenerateDataset:
        """The use case that makes a routing data set."""
        from adapters.datasets.jsonl_source_reader import JsonlSourceReader
        from application.datasets.generate_dataset import GenerateDataset

        return GenerateDataset(JsonlSourceReader(), self.datasets, self.clock, self.progress)

    def add_to_dataset(self) -> AddToDataset:
        """The use case that adds an adapter to a routing data set."""
        from adapters.datasets.jsonl_source_reader import JsonlSourceReader
        from application.datasets.grow_dataset import AddToDataset

        return AddToDataset(JsonlSourceReader(), self.datasets, self.clock)

    def remove_from_dataset(self) -> RemoveFromDataset:
        """The use case that takes an adapter out of a routing data set."""
        from application.datasets.grow_dataset import RemoveFromDataset

        return RemoveFromDataset(self.datasets, self.clock)

    def grow_router(self, base_model: str | None = None) -> GrowRouter:
        """The use case that retrains a router for a grown data set and compares both."""
        from application.routing.evaluate_router import EvaluateReport, EvaluateRequest
        from application.training.grow_router import GrowRouter

        def score(router: TrainedRouter, path: Path) -> EvaluateReport:
            return self.evaluate_router(router, base_model=base_model)(EvaluateRequest(path, robustness=False))

        return GrowRouter(self.router_trainer("local"), self.routers, self.datasets, score)

    def verify_dataset(self) -> VerifyDataset:
        """The use case that checks a routing data set."""
        from application.datasets.verify_dataset import VerifyDataset

        return VerifyDataset(self.datasets)

    def inspect_dataset(self) -> InspectDataset:
        """The use case that helps people look into a routing data set."""
        from adapters.datasets.sklearn_similarity import SklearnSimilarity
        from application.datasets.inspect_dataset import InspectDataset

        return InspectDataset(self.datasets, SklearnSimilarity())

    def load_base(
        self, name_or_path: str | None = None, *, device: str | None = None, max_layer: int | None = None
    ) -> LoadedBase:
        """Load the base model: the one named, else ``BASE_MODEL_ID``, else the embedded one.

        Args:
            name_or_path: hub id or folder.
            device: for example "cuda"; None takes a GPU when there is one.
            max_layer: load no more than features up to this layer need (such a model cannot generate).
        """
        from adapters.base_model.transformers_base import load_base

        wanted = name_or_path or self.environment.get("BASE_MODEL_ID") or None
        return load_base(wanted, cache_dir=self.cache_dir, device=device, progress=self.progress, max_layer=max_layer)

    def feature_extractor(
        self, base: LoadedBase, *, max_tokens: int = 512, use_cache: bool = True
    ) -> FeatureExtractor:
        """Return the features of a loaded base model, kept on disk under `cache_dir` unless `use_cache` is false.

        The cache pays where the same prompts come again (training, evaluation); a single prompt to route does not.
        """
        from adapters.base_model.feature_cache import CachedFeatureExtractor
        from adapters.base_model.transformers_features import TransformersFeatureExtractor

        extractor = TransformersFeatureExtractor(base, max_tokens=max_tokens, progress=self.progress)
        if not use_cache:
            return extractor
        return CachedFeatureExtractor(extractor, self.cache_dir / "features", variant=str(base.model.dtype))

    def router_base(self, router: TrainedRouter, name_or_path: str | None = None) -> LoadedBase:
        """Load all of a base model: the one named, else ``BASE_MODEL_ID``, else the one the router was trained on."""
        from adapters.base_model.embedded_base import EMBEDDED_NAME

        spec = router.card.features
        own = None if spec.base.name == EMBEDDED_NAME else spec.base.name
        wanted = name_or_path or self.environment.get("BASE_MODEL_ID") or own
        return self.load_base(wanted)

    def route_on(self, router: TrainedRouter, base: LoadedBase) -> RoutePrompts:
        """Routing on a base model that is loaded."""
        from adapters.router.numpy_scorer import NumpyRouterScorer
        from application.routing.route_prompts import RoutePrompts

        features = self.feature_extractor(base, max_tokens=router.card.features.max_tokens, use_cache=False)
        return RoutePrompts(router, features, NumpyRouterScorer())

    def check_lora_adapters(self, base: LoadedBase) -> CheckLoraAdapters:
        """The use case that proves LoRA adapters; it puts the sound ones into the base model."""
        from adapters.lora.lora_inspection import SafetensorsLoraInspector
        from adapters.lora.peft_engine import PeftEngine
        from application.answering.check_lora_adapters import CheckLoraAdapters

        return CheckLoraAdapters(SafetensorsLoraInspector(base), lambda folders: PeftEngine(base, folders))

    def answer_prompts(
        self,
        router: TrainedRouter,
        folders: Mapping[str, Path],
        base_model: str | None = None,
        *,
        fallback: Fallback | None = None,
        disabled: frozenset[str] = frozenset(),
    ) -> AnswerPrompts:
        """The use case that answers prompts: one base model loaded, every LoRA adapter checked.

        Of `folders` (by name) those are loaded that the router or the fallback may ask for.
        """
        from application.answering.answer_prompts import AnswerPrompts
        from domain.answers import STRICT, check_available

        fallback, labels = fallback or STRICT, router.card.labels
        wanted = {*labels.names, fallback.adapter} - disabled
        check_available(labels, folders, fallback, disabled)  # before anything slow
        base = self.router_base(router, base_model)
        check = self.check_lora_adapters(base)({name: path for name, path in folders.items() if name in wanted})
        check.require_sound()
        return AnswerPrompts(self.route_on(router, base), check.engine, fallback, disabled)

    def answer_file(
        self, answering: AnswerPrompts, source: Path, output: Path, options: GenerationOptions
    ) -> AnswerFileReport:
        """Answer a file of prompts into a file of answers."""
        from adapters.lora.jsonl_answers import JsonlAnswerLog, JsonlPromptRowReader
        from application.answering.answer_file import AnswerFile, AnswerFileRequest

        run = AnswerFile(JsonlPromptRowReader(), JsonlAnswerLog(output), answering, self.progress)
        return run(AnswerFileRequest(source, options))

    def finetune(self, base: LoadedBase, options: FinetuneOptions | None = None) -> PeftFinetuner:
        """Fine-tuning of small LoRA adapters on a base model that is loaded."""
        from adapters.lora.peft_finetuning import FinetuneOptions, PeftFinetuner

        return PeftFinetuner(base, self.progress, options or FinetuneOptions())

    def train_router(self, backend: str = "local", **remote: Any) -> TrainRouter:
        """The use case that trains a router; see :meth:`router_trainer`."""
        from application.training.train_router import TrainRouter

        trainer = self.router_trainer(backend, **remote)
        if backend == "local":
            return TrainRouter(trainer, self.environment)
        from entrypoints.modal_places import remote_environment

        # Paths of a run elsewhere are checked there.
        return TrainRouter(trainer, remote_environment(self.environment), lambda _path: True)

    def router_trainer(self, backend: str, **remote: Any) -> RouterTrainer:
        """What trains routers: "local" is this process, "modal" a GPU on Modal (see :meth:`modal_trainer`)."""
        if backend == "modal":
            return self.modal_trainer(**remote)
        if any(value not in (None, 1) for value in remote.values()):
            from domain.errors import UsageError

            raise UsageError("--gpu, --hf-secret and --encode-shards belong to --backend modal")
        return self.fit_router(self.interruption)

    def modal_jobs(self, *, gpu: str | None = None, hf_secret: str | None = None) -> ModalJobs:
        """Calls of the app on Modal: the deployed one, else one that lives as long as the call.

        Args:
            gpu: kind of GPU, for example "L4"; None for the app's own.
            hf_secret: name of the Modal secret with ``HF_TOKEN``, for gated base models.
        """
        from importlib import import_module

        from adapters.modal_cloud.modal_connection import ModalConnection
        from adapters.modal_cloud.modal_jobs import ModalJobs, RemoteApp

        def load_app() -> RemoteApp:
            app: RemoteApp = import_module("entrypoints.modal_app")
            return app

        return ModalJobs(ModalConnection(self.environment), load_app, gpu, hf_secret)

    def modal_evaluation(self, *, gpu: str | None = None, hf_secret: str | None = None) -> ModalRouterEvaluation:
        """Scoring a router on Modal."""
        from adapters.modal_cloud.modal_evaluation import ModalRouterEvaluation

        return ModalRouterEvaluation(self.modal_jobs(gpu=gpu, hf_secret=hf_secret), self.progress)

    def modal_answering(self, *, gpu: str | None = None, hf_secret: str | None = None) -> ModalAnswering:
        """Routing and answering prompts on Modal."""
        from adapters.modal_cloud.modal_answering import ModalAnswering

        return ModalAnswering(self.modal_jobs(gpu=gpu, hf_secret=hf_secret), self.progress)

    def modal_trainer(
        self, *, gpu: str | None = None, hf_secret: str | None = None, encode_shards: int = 1
    ) -> ModalGpuTrainer:
        """Training on Modal; `encode_shards` containers share the encoding of the prompts.

        ``MOE_ROUTER_COMMIT_SECONDS`` overrides the least time between commits of checkpoints.
        """
        from adapters.modal_cloud.modal_gpu_trainer import ModalGpuTrainer
        from entrypoints.cli import tool_version

        jobs = self.modal_jobs(gpu=gpu, hf_secret=hf_secret)
        every = float(self.environment.get("MOE_ROUTER_COMMIT_SECONDS") or 10.0)
        return ModalGpuTrainer(jobs, self.progress, tool_version(), encode_shards, every)

    def fit_router(self, interruption: Interruption) -> FitRouter:
        """The trainer that works in this process.

        Args:
            interruption: tells it of signals.
        """
        from adapters.datasets.jsonl_dataset_store import JsonlDatasetStore
        from adapters.metrics.tensorboard_metrics import TensorboardMetricsLog
        from adapters.router.numpy_calibrator import NumpyRouterCalibrator
        from adapters.router.numpy_probe import KernelRidgeProbe
        from adapters.router.safetensors_checkpoints import SafetensorsCheckpointStore
        from adapters.router.torch_heads import TorchHeadTrainer
        from application.training.fit_router import FitRouter
        from entrypoints.cli import tool_version

        return FitRouter(
            rows=JsonlDatasetStore(),
            prompts=self.prompt_reader,
            extractors=self.load_features,
            probe=KernelRidgeProbe(),
            heads=TorchHeadTrainer(),
            calibrator=NumpyRouterCalibrator(),
            routers=self.routers,
            checkpoints=SafetensorsCheckpointStore(),
            metrics=TensorboardMetricsLog(),
            interruption=interruption,
            clock=self.clock,
            tool_version=tool_version(),
        )

    def load_features(
        self, base_model: str | None, *, max_tokens: int, use_cache: bool, max_layer: int | None = None
    ) -> FeatureExtractor:
        """Load a base model for its features only: an :class:`application.ports.FeatureExtractorSource`."""
        base = self.load_base(base_model, max_layer=max_layer)
        return self.feature_extractor(base, max_tokens=max_tokens, use_cache=use_cache)

    def serve_tensorboard(self, folder: Path, host: str, port: int) -> tuple[str, Callable[[], object]]:
        """Start TensorBoard on a folder of runs; return its URL and a function that waits for Ctrl-C."""
        from adapters.metrics.tensorboard_server import serve

        return serve(folder, host, port)

    def modal_volume(self, volume: str, *, create: bool = False) -> RemoteDatasetStore:
        """One Modal volume; nothing is contacted before it is used."""
        from adapters.modal_cloud.modal_connection import ModalConnection
        from adapters.modal_cloud.modal_volume_dataset_store import ModalVolumeDatasetStore

        return ModalVolumeDatasetStore(volume, ModalConnection(self.environment), create)

    def plan_publication(self) -> PlanPublication:
        """Finding out what a publication would upload; loads nothing of Modal."""
        from adapters.datasets.local_dataset_folders import LocalDatasetFolders
        from application.datasets.publish_dataset import PlanPublication

        return PlanPublication(LocalDatasetFolders())

    def publish_dataset(self, volume: str, *, create: bool = False) -> PublishDataset:
        """Uploading a data set to a Modal volume."""
        from adapters.datasets.local_dataset_folders import LocalDatasetFolders
        from application.datasets.publish_dataset import PublishDataset

        return PublishDataset(LocalDatasetFolders(), self.modal_volume(volume, create=create), self.progress)

    def list_datasets(self, volume: str) -> ListDatasets:
        """Listing the data sets on a Modal volume."""
        from application.datasets.list_datasets import ListDatasets

        return ListDatasets(self.modal_volume(volume))

    def download_dataset(self, volume: str) -> DownloadDataset:
        """Fetching a data set from a Modal volume."""
        from adapters.datasets.local_dataset_folders import LocalDatasetFolders
        from application.datasets.download import DownloadDataset

        return DownloadDataset(LocalDatasetFolders(), self.modal_volume(volume), self.progress)

    def download_router(self, volume: str) -> DownloadRouter:
        """Fetching a trained router from a Modal volume."""
        from adapters.datasets.local_dataset_folders import LocalDatasetFolders
        from adapters.router.safetensors_router_store import SafetensorsRouterStore
        from application.datasets.download import DownloadRouter

        return DownloadRouter(
            LocalDatasetFolders(), self.modal_volume(volume), SafetensorsRouterStore(), self.progress
        )

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

    def route_prompts(
        self,
        router: TrainedRouter,
        *,
        base_model: str | None = None,
        device: str | None = None,
        use_cache: bool = False,
    ) -> RoutePrompts:
        """Routing with a trained router; loads its base model as far as it reads it, and no LoRA adapter.

        The base model is the one named, else ``BASE_MODEL_ID``, else the one that the router was trained on.
        """
        from adapters.base_model.embedded_base import EMBEDDED_NAME
        from adapters.router.numpy_scorer import NumpyRouterScorer
        from application.routing.route_prompts import RoutePrompts

        spec = router.card.features
        wanted = base_model or self.environment.get("BASE_MODEL_ID") or spec.base.name
        own = wanted == spec.base.name  # another model is loaded whole, so that it can be compared with the router's
        name = None if own and wanted == EMBEDDED_NAME else wanted
        base = self.load_base(name, device=device, max_layer=spec.layers[-1] if own else None)
        extractor = self.feature_extractor(base, max_tokens=spec.max_tokens, use_cache=use_cache)
        return RoutePrompts(router, extractor, NumpyRouterScorer())

    def evaluate_router(
        self, router: TrainedRouter, *, base_model: str | None = None, use_cache: bool = True
    ) -> EvaluateRouter:
        """Scoring a trained router on held-out prompts."""
        from application.routing.evaluate_router import EvaluateRouter

        route = self.route_prompts(router, base_model=base_model, use_cache=use_cache)
        return EvaluateRouter(self.datasets, self.prompt_reader, route, self.progress)

    def write_file(self, path: Path, content: bytes) -> None:
        """Write a report's file: complete or not at all; raises StorageError."""
        from adapters.files.atomic_files import write_bytes

        write_bytes(path, content)
