"""Everything that happens on Modal; nothing is contacted before it is used."""

from __future__ import annotations

from typing import TYPE_CHECKING

from attrs import mutable

from entrypoints.wiring.foundation import Foundation

if TYPE_CHECKING:  # every command pays for what is imported here, --help included
    from adapters.modal_cloud.modal_connection import ModalConnection
    from adapters.modal_cloud.modal_jobs import Jobs
    from application.ports.publishing import RemoteDatasetStore
    from application.publishing.download import DownloadDataset, DownloadRouter
    from application.publishing.list_datasets import ListDatasets
    from application.publishing.publish_dataset import PlanPublication, PublishDataset
    from entrypoints.backend import Where


@mutable(slots=False)
class ModalParts(Foundation):
    """Everything that happens on Modal; nothing is contacted before it is used."""

    def modal_volume(self, volume: str, *, create: bool = False) -> RemoteDatasetStore:
        """One Modal volume; nothing is contacted before it is used."""
        from adapters.modal_cloud.modal_volume_dataset_store import ModalVolumeDatasetStore

        return ModalVolumeDatasetStore(volume, self.modal_connection(), create)

    def plan_publication(self) -> PlanPublication:
        """Finding out what a publication would upload; loads nothing of Modal."""
        from adapters.datasets.local_dataset_folders import LocalDatasetFolders
        from application.publishing.publish_dataset import PlanPublication

        return PlanPublication(LocalDatasetFolders())

    def publish_dataset(self, volume: str, *, create: bool = False) -> PublishDataset:
        """Uploading a data set to a Modal volume."""
        from application.publishing.publish_dataset import PublishDataset

        return PublishDataset(self.modal_volume(volume, create=create), self.progress)

    def list_datasets(self, volume: str) -> ListDatasets:
        """Listing the data sets on a Modal volume."""
        from application.publishing.list_datasets import ListDatasets

        return ListDatasets(self.modal_volume(volume))

    def download_dataset(self, volume: str) -> DownloadDataset:
        """Fetching a data set from a Modal volume."""
        from adapters.datasets.local_dataset_folders import LocalDatasetFolders
        from application.publishing.download import DownloadDataset

        return DownloadDataset(LocalDatasetFolders(), self.modal_volume(volume), self.progress)

    def download_router(self, volume: str) -> DownloadRouter:
        """Fetching a trained router from a Modal volume."""
        from adapters.datasets.local_dataset_folders import LocalDatasetFolders
        from adapters.router.safetensors_router_store import SafetensorsRouterStore
        from application.publishing.download import DownloadRouter

        return DownloadRouter(
            LocalDatasetFolders(), self.modal_volume(volume), SafetensorsRouterStore(), self.progress
        )

    def modal_connection(self) -> ModalConnection:
        """How Modal is called: with a deadline for every call."""
        from adapters.modal_cloud.modal_connection import ModalConnection

        return ModalConnection(self.environment, deadline=self.settings.modal_timeout)

    def modal_jobs(self, where: Where) -> Jobs:
        """Calls of the app on Modal: the deployed one, else one that lives as long as the call."""
        import click

        from adapters.modal_cloud.modal_jobs import ModalJobs
        from entrypoints.on_modal.options import call_options, defined_app

        options = call_options(where)
        return ModalJobs(
            self.modal_connection(),
            lambda: defined_app(options.choice),
            options,
            redeploy=where.redeploy,
            note=lambda line: click.echo(line, err=True),
        )
