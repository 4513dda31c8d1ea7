"""A function of the app, as a call that takes and returns values."""

from __future__ import annotations

from typing import Any, Generic, TypeVar

from attrs import frozen

from adapters.modal_cloud.modal_gpu_trainer import Relay
from adapters.modal_cloud.modal_jobs import ModalJobs
from adapters.modal_cloud.modal_wire import from_wire, to_wire
from application.ports import ProgressReporter

Request = TypeVar("Request")
Report = TypeVar("Report")


@frozen
class ModalCall(Generic[Request, Report]):
    """Calls one function of the app and waits for what it returns.

    Attributes:
        jobs: calls the app.
        progress: shows here how far the container is.
        function: the function's name.
        report: class of what it returns.
    """

    jobs: ModalJobs
    progress: ProgressReporter
    function: str
    report: type[Report]

    def __call__(self, request: Request) -> Report:
        """Return the report, as the local use case would; raises as it does, and RemoteError."""
        with Relay(self.progress) as relay:
            result: dict[str, Any] = self.jobs.run(self.function, to_wire(request), relay)
        return from_wire(self.report, result)
