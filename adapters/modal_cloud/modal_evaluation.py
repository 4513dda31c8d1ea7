"""Scoring a router on a Modal GPU."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from attrs import field, frozen

from adapters.modal_cloud.modal_gpu_trainer import Relay
from adapters.modal_cloud.modal_jobs import ModalJobs
from adapters.modal_cloud.modal_wire import from_wire, to_wire
from application.ports import ProgressReporter
from application.routing.evaluate_router import EvaluateReport


@frozen
class RemoteEvaluation:
    """What to score, by the containers' paths.

    Attributes:
        router: router file.
        dataset_dir: folder of the data set.
        data_path: file of rows; goes before `dataset_dir`.
        base_model: hub id or folder; else the one that the router was trained on.
        out_of_scope: file of prompts that belong to no adapter.
        robustness: whether changed prompts are routed as well.
        environment: the caller's ``VAL_DATA``, for when no data is named.
    """

    router: Path
    dataset_dir: Path | None = None
    data_path: Path | None = None
    base_model: str | None = None
    out_of_scope: Path | None = None
    robustness: bool = True
    environment: dict[str, str] = field(factory=dict)


@frozen
class ModalRouterEvaluation:
    """Scores routers with the app's function ``evaluate``, which also keeps the figures on the output volume.

    Attributes:
        jobs: calls the app.
        progress: shows here how far the container is.
    """

    jobs: ModalJobs
    progress: ProgressReporter

    def __call__(self, request: RemoteEvaluation) -> EvaluateReport:
        """Return the report, as the local use case would; raises as it does, and RemoteError."""
        with Relay(self.progress) as relay:
            result: dict[str, Any] = self.jobs.run("evaluate", to_wire(request), relay)
        return from_wire(EvaluateReport, result)
