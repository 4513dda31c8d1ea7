"""The roles that the use cases need filled; adapters fill them.

Each port is a small Protocol whose docstring is its contract; ``tests/contracts/`` runs every contract
over every implementation, the in-memory ones included.
"""

from application.ports.datasets import (
    DatasetStore,
    DrawnLine,
    ReservedDataset,
    RowReader,
    Source,
    SourceDraws,
    SourceReader,
)
from application.ports.features import FeatureExtractor
from application.ports.prompts import PromptReader
from application.ports.routers import (
    Calibration,
    LabelledFeatures,
    RouterCalibrator,
    RouterScorer,
    RouterStore,
    TrainedRouter,
    UncalibratedRouter,
)
from application.ports.runtime import Clock, ProgressReporter, ProgressTask
from application.ports.training import RouterTrainer, TrainingObserver, TrainJob, TrainReport

__all__ = [
    "Calibration",
    "Clock",
    "DatasetStore",
    "DrawnLine",
    "FeatureExtractor",
    "LabelledFeatures",
    "ProgressReporter",
    "ProgressTask",
    "PromptReader",
    "ReservedDataset",
    "RouterCalibrator",
    "RouterScorer",
    "RouterStore",
    "RouterTrainer",
    "RowReader",
    "Source",
    "SourceDraws",
    "SourceReader",
    "TrainJob",
    "TrainReport",
    "TrainedRouter",
    "TrainingObserver",
    "UncalibratedRouter",
]
