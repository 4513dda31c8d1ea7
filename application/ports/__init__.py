"""The roles that the use cases need filled; adapters fill them.

Each port is a small Protocol whose docstring is its contract; ``tests/contracts/`` runs every contract
over every implementation, the in-memory ones included.
"""

from application.ports.checkpoints import Checkpoint, CheckpointStore
from application.ports.datasets import (
    DatasetReader,
    DatasetStore,
    DrawnLine,
    ReservedDataset,
    RowReader,
    Source,
    SourceDraws,
    SourceReader,
)
from application.ports.features import FeatureExtractor
from application.ports.heads import (
    FeatureProbe,
    HeadEvaluation,
    HeadProblem,
    HeadSession,
    HeadTrainer,
    LabelledTexts,
    ProbeScore,
    StepResult,
)
from application.ports.prompts import PromptReader
from application.ports.routers import (
    Calibration,
    KnownTexts,
    LeftOutFold,
    RouterCalibrator,
    RouterScorer,
    RouterStore,
    TrainedRouter,
    UncalibratedRouter,
)
from application.ports.runtime import Clock, ProgressReporter, ProgressTask
from application.ports.training import (
    FeatureExtractorSource,
    Interruption,
    MetricsLog,
    RouterTrainer,
    TrainingObserver,
    TrainJob,
    TrainReport,
)

__all__ = [
    "Calibration",
    "Checkpoint",
    "CheckpointStore",
    "Clock",
    "DatasetReader",
    "DatasetStore",
    "DrawnLine",
    "FeatureExtractor",
    "FeatureExtractorSource",
    "FeatureProbe",
    "HeadEvaluation",
    "HeadProblem",
    "HeadSession",
    "HeadTrainer",
    "Interruption",
    "KnownTexts",
    "LabelledTexts",
    "LeftOutFold",
    "MetricsLog",
    "ProbeScore",
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
    "StepResult",
    "TrainJob",
    "TrainReport",
    "TrainedRouter",
    "TrainingObserver",
    "UncalibratedRouter",
]
