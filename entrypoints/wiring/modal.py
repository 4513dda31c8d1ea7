"""Everything that happens on Modal; nothing is contacted before it is used."""

from __future__ import annotations

from typing import TYPE_CHECKING

from attrs import mutable

from entrypoints.version import tool_version
from entrypoints.wiring.foundation import Foundation

if TYPE_CHECKING:  # every command pays for what is imported here, --help included
    from adapters.modal_cloud.modal_answering import ModalAnswering
    from adapters.modal_cloud.modal_call import ModalCall
    from adapters.modal_cloud.modal_gpu_trainer import ModalGpuTrainer
    from adapters.modal_cloud.modal_jobs import ModalJobs
    from adapters.modal_cloud.modal_requests import RemoteAnswers, RemoteEvaluation, RemoteQuestions
    from application.datasets.download import DownloadDataset, DownloadRouter
    from application.datasets.list_datasets import ListDatasets
    from application.datasets.publish_dataset import PlanPublication, PublishDataset
    from application.ports.publishing import RemoteDatasetStore
    from application.routing.evaluate_router import EvaluateReport


@mutable(slots=False)
class ModalParts(Foundation):
    """Everything that happens on Modal; nothing is contacted before it is used."""

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
        from application.datasets.publish_dataset import PublishDataset

        return PublishDataset(self.modal_volume(volume, create=create), self.progress)

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

    def modal_evaluation(self, **remote: str | None) -> ModalCall[RemoteEvaluation, EvaluateReport]:
        """Scoring a router on Modal; for `remote` see :meth:`modal_jobs`."""
        from adapters.modal_cloud.modal_call import ModalCall
        from application.routing.evaluate_router import EvaluateReport

        return ModalCall(self.modal_jobs(**remote), self.progress, "evaluate", EvaluateReport)

    def modal_inference(self, **remote: str | None) -> ModalCall[RemoteQuestions, RemoteAnswers]:
        """Routing or answering a few prompts on Modal; for `remote` see :meth:`modal_jobs`."""
        from adapters.modal_cloud.modal_call import ModalCall
        from adapters.modal_cloud.modal_requests import RemoteAnswers

        return ModalCall(self.modal_jobs(**remote), self.progress, "infer", RemoteAnswers)

    def modal_answering(self, questions: RemoteQuestions, **remote: str | None) -> ModalAnswering:
        """Answering many prompts on Modal as a stream; for `remote` see :meth:`modal_jobs`."""
        from adapters.modal_cloud.modal_answering import ModalAnswering

        return ModalAnswering(self.modal_jobs(**remote), self.progress, questions)

    def modal_trainer(
        self, *, gpu: str | None = None, hf_secret: str | None = None, encode_shards: int = 1
    ) -> ModalGpuTrainer:
        """Training on Modal; `encode_shards` containers share the encoding of the prompts.

        ``MOE_ROUTER_COMMIT_SECONDS`` overrides the least time between commits of checkpoints.
        """
        from adapters.modal_cloud.modal_gpu_trainer import ModalGpuTrainer

        jobs = self.modal_jobs(gpu=gpu, hf_secret=hf_secret)
        every = float(self.environment.get("MOE_ROUTER_COMMIT_SECONDS") or 10.0)
        return ModalGpuTrainer(jobs, self.progress, tool_version(), encode_shards, every)
