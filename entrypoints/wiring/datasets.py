"""Making, checking and growing routing data sets."""

from __future__ import annotations

from typing import TYPE_CHECKING

from attrs import mutable

from entrypoints.wiring.foundation import Foundation

if TYPE_CHECKING:  # every command pays for what is imported here, --help included
    from application.datasets.generate_dataset import GenerateDataset
    from application.datasets.grow_dataset import AddToDataset, RemoveFromDataset
    from application.datasets.inspect_dataset import InspectDataset
    from application.datasets.verify_dataset import VerifyDataset


@mutable(slots=False)
class DatasetParts(Foundation):
    """Making, checking and growing routing data sets."""

    def generate_dataset(self) -> GenerateDataset:
        """The use case that makes a routing data set."""
        from adapters.datasets.source_reader import FileSourceReader
        from application.datasets.generate_dataset import GenerateDataset

        return GenerateDataset(FileSourceReader(), self.datasets, self.clock, self.progress)

    def add_to_dataset(self) -> AddToDataset:
        """The use case that adds an adapter to a routing data set."""
        from adapters.datasets.source_reader import FileSourceReader
        from application.datasets.grow_dataset import AddToDataset

        return AddToDataset(FileSourceReader(), self.datasets, self.clock)

    def remove_from_dataset(self) -> RemoveFromDataset:
        """The use case that takes an adapter out of a routing data set."""
        from application.datasets.grow_dataset import RemoveFromDataset

        return RemoveFromDataset(self.datasets, self.clock)

    def verify_dataset(self) -> VerifyDataset:
        """The use case that checks a routing data set."""
        from application.datasets.verify_dataset import VerifyDataset

        return VerifyDataset(self.datasets)

    def inspect_dataset(self) -> InspectDataset:
        """The use case that helps people look into a routing data set."""
        from adapters.datasets.sklearn_similarity import SklearnSimilarity
        from application.datasets.inspect_dataset import InspectDataset

        return InspectDataset(self.datasets, SklearnSimilarity())
