"""Training on a Modal GPU, behind the same port as training here."""

from __future__ import annotations

from contextlib import ExitStack
from typing import Any

from attrs import field, frozen

from adapters.modal_cloud.modal_jobs import ModalJobs, StartedCall
from adapters.modal_cloud.modal_wire import event_from_wire, from_wire, to_wire
from application.ports import ProgressReporter, ProgressTask, TrainingObserver, TrainJob, TrainReport
from domain.errors import UsageError
from domain.training import TrainingEvent


def train_request(
    job: TrainJob, tool_version: str, encode_shards: int = 1, commit_seconds: float = 10.0
) -> dict[str, Any]:
    """Return what the app's function ``train`` takes.

    Args:
        job: what to train, with the containers' paths.
        tool_version: version of this software, for the router's card.
        encode_shards: containers that encode prompts at the same time before the head is trained; 1 for none.
        commit_seconds: least seconds between commits of checkpoints; a commit costs the run about a second.

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
    """

    jobs: ModalJobs
    progress: ProgressReporter
    tool_version: str
    encode_shards: int = 1
    commit_seconds: float = 10.0

    def train(self, job: TrainJob, observer: TrainingObserver) -> TrainReport:
        """Run the job to its end; see the port."""
        with Relay(self.progress, observer) as relay:
            return from_wire(TrainReport, self.jobs.run("train", self._request(job), relay))

    def start(self, job: TrainJob) -> StartedCall:
        """Start the job and leave it to itself; raises RemoteError."""
        return self.jobs.start("train", self._request(job))

    def _request(self, job: TrainJob) -> dict[str, Any]:
        return train_request(job, self.tool_version, self.encode_shards, self.commit_seconds)


@frozen(eq=False)
class Relay:
    """Repeats here what a container tells: training events and progress.

    Attributes:
        progress: shows the container's progress.
        observer: hears the container's training events, or None.
    """

    progress: ProgressReporter
    observer: TrainingObserver | None = None
    _open: dict[int, tuple[ExitStack, ProgressTask]] = field(factory=dict, init=False)

    def __enter__(self) -> Relay:
        return self

    def __exit__(self, *_: object) -> None:
        self._close_all()

    def __call__(self, message: dict[str, Any]) -> None:
        """Take one message; kinds that this version does not know are skipped."""
        kind = message.get("kind")
        if kind == "event" and self.observer is not None:
            event: TrainingEvent = event_from_wire(message)
            self.observer.on_event(event)
        elif kind == "started":
            self._close_all()  # what an earlier container had under way is over
        elif kind == "progress":
            stack = ExitStack()
            task = stack.enter_context(self.progress.track(message["description"], message["total"]))
            self._open[message["id"]] = (stack, task)
        elif kind == "advance" and message["id"] in self._open:
            self._open[message["id"]][1].advance(message["steps"])
        elif kind == "done" and message["id"] in self._open:
            self._open.pop(message["id"])[0].close()

    def _close_all(self) -> None:
        while self._open:
            self._open.popitem()[1][0].close()
