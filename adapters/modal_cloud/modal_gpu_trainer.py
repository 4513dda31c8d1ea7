"""Training on a Modal GPU, behind the same port as training here."""

from __future__ import annotations

from collections.abc import Mapping
from secrets import token_hex
from typing import Any

from attrs import frozen

from adapters.modal_cloud.modal_jobs import Jobs, StartedCall
from adapters.modal_cloud.modal_messages import Relay
from adapters.modal_cloud.modal_wire import from_wire, to_wire
from application.ports import ProgressReporter, TrainingObserver, TrainJob, TrainReport
from domain.errors import UsageError


def train_request(
    job: TrainJob,
    tool_version: str,
    encode_shards: int = 1,
    commit_seconds: float = 10.0,
    encode_batch: int | None = None,
    verify: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Return what the app's function ``train`` takes.

    Args:
        job: what to train, with the containers' paths.
        tool_version: version of this software, for the router's card.
        encode_shards: containers that encode prompts at the same time before the head is trained; 1 for none.
        commit_seconds: least seconds between commits of checkpoints; a commit costs the run about a second.
        encode_batch: most prompts that are encoded at a time; None for what fits.
        verify: the data set's ``folder`` there, to be checked before the run, and whether a fault of it is an error
            (``strict``).

    Raises UsageError for shards without the feature cache, which is how their features reach the run.
    """
    if encode_shards < 1:
        raise UsageError(f"--encode-shards {encode_shards} is below 1")
    if encode_shards > 1 and not job.use_cache:
        raise UsageError(
            "--encode-shards hands features over in the feature cache", hint="leave out --no-cache or --encode-shards"
        )
    return {
        "job": to_wire(job),
        "tool_version": tool_version,
        "encode_shards": encode_shards,
        "commit_seconds": commit_seconds,
        "encode_batch": encode_batch,
        "verify": dict(verify or {}),
        "token": token_hex(8),
    }


@frozen
class ModalGpuTrainer:
    """A :class:`application.ports.RouterTrainer` whose work is done by the app ``moe-router-train``.

    The job's paths are the container's: ``/datasets/…``, ``/output/…``. A container that Modal takes away is
    replaced, and the run goes on from its last committed checkpoint.

    Attributes:
        jobs: calls the app.
        progress: shows here how far the container is.
        tool_version: version of this software, for the router's card.
        encode_shards: see :func:`train_request`.
        commit_seconds: see :func:`train_request`.
        encode_batch: see :func:`train_request`.
        verify: see :func:`train_request`.
    """

    jobs: Jobs
    progress: ProgressReporter
    tool_version: str
    encode_shards: int = 1
    commit_seconds: float = 10.0
    encode_batch: int | None = None
    verify: Mapping[str, Any] | None = None

    def train(self, job: TrainJob, observer: TrainingObserver) -> TrainReport:
        """Run the job to its end; see the port."""
        with Relay(self.progress, observer) as relay:
            return from_wire(TrainReport, self.jobs.run("train", self._request(job), relay))

    def attach(self, call_id: str) -> TrainReport:
        """Wait for a run that was started before; raises what it met."""
        return from_wire(TrainReport, self.jobs.attach("train", call_id))

    def start(self, job: TrainJob) -> StartedCall:
        """Start the job and leave it to itself; raises RemoteError."""
        return self.jobs.start("train", self._request(job))

    def _request(self, job: TrainJob) -> dict[str, Any]:
        return train_request(
            job, self.tool_version, self.encode_shards, self.commit_seconds, self.encode_batch, self.verify
        )
