"""What runs inside a Modal container: the same use cases as elsewhere, on the paths of the mounted volumes.

The volumes are read after a reload and written with a commit; nothing else reaches them. User's errors are returned
as values, because Modal would repeat a call that raises; a container that is taken away raises KeyboardInterrupt
after its last commit, so that Modal starts the same input again elsewhere.
"""

from __future__ import annotations

import os
import traceback
from collections.abc import Callable, Iterable
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from attrs import evolve, field, frozen, mutable

from adapters.lora.lora_files import lora_folders
from adapters.modal_cloud.committed_checkpoints import CommittedCheckpointStore
from adapters.modal_cloud.modal_answering import RemoteAnswers
from adapters.modal_cloud.modal_messages import QueueObserver, QueueProgressReporter, Updates
from adapters.modal_cloud.modal_volumes import Volumes
from adapters.modal_cloud.modal_wire import bug_to_wire, error_to_wire, from_wire, raise_remote_error, to_wire
from application.answering.answer_prompts import AnswerRequest
from application.answering.answers import Answer
from application.ports import Interruption, ProgressReporter, TrainJob
from application.training.encode_prompts import EncodeReport, EncodeShare
from domain.errors import InterruptedRunError, MissingFileError, MoeRouterError
from entrypoints.backend import Evaluation, Questions
from entrypoints.logs import set_up_logs
from entrypoints.on_modal.places import EVALUATION, LORA_DIR, LORA_FOLDERS, THERE
from entrypoints.reports.training import TrainingLines
from entrypoints.settings import Places
from entrypoints.wiring.local import LocalApplication
from entrypoints.wiring.local_backend import LocalBackend

if TYPE_CHECKING:
    from adapters.base_model.transformers_base import LoadedBase
    from application.training.train_router import TrainRouter


@mutable(slots=False)
class ContainerApplication(LocalApplication):
    """The composition root with what differs in a container: progress goes to the caller, checkpoints are committed.

    Attributes:
        updates: the way to the caller.
        volumes: what is read and written.
    """

    updates: Updates = field(kw_only=True)
    volumes: Volumes = field(kw_only=True)

    @cached_property
    def progress(self) -> ProgressReporter:
        """Progress bars on the caller's side."""
        return QueueProgressReporter(self.updates)

    def train_router(self, interruption: Interruption) -> TrainRouter:
        """The local trainer, whose checkpoints outlive the container."""
        local = super().train_router(interruption)
        return evolve(local, checkpoints=CommittedCheckpointStore(local.checkpoints, self.volumes.commit_soon))

    def load_base(self, *args: Any, **options: Any) -> LoadedBase:
        """Load a base model, and keep for the next container what had to be downloaded."""
        base = super().load_base(*args, **options)
        self.volumes.commit()
        return base

    def encode_share(self) -> EncodeShare:
        """Encoding a share of a job's prompts ahead of it."""
        from adapters.datasets.prompt_files import PromptFileReader
        from entrypoints.wiring.training import packaged_companions

        return EncodeShare(self.datasets, PromptFileReader(), self.load_features, packaged_companions())


@frozen(eq=False)
class ContainerBackend(LocalBackend):
    """The container's own process as a place to run: LoRA adapters lie on the checkpoints volume."""

    places: Places = THERE

    def lora_folders(self, questions: Questions) -> dict[str, Path]:
        """Return the LoRA adapters' folders; the volume may lack some, a folder that was asked for none."""
        try:
            found = lora_folders({}, questions.lora_dir or LORA_DIR)
        except MissingFileError:
            if questions.lora_dir is not None:
                raise
            found = {}
        named = {name: found[folder] for name, folder in LORA_FOLDERS.items() if folder in found}
        return named | found | questions.loras


@frozen(eq=False)
class Worker:
    """One call of a function of the app.

    Attributes:
        queue: where the caller listens, or None.
        volumes: what is read and written.
    """

    queue: Any | None
    volumes: Volumes

    def train(
        self,
        request: dict[str, Any],
        fetch: Callable[[dict[str, Any]], dict[str, Any]],
        encode_shares: Callable[[Iterable[Any]], Iterable[Any]],
    ) -> dict[str, Any]:
        """Train a router.

        Args:
            request: see :func:`adapters.modal_cloud.modal_gpu_trainer.train_request`; with a true ``log`` the
                remote log shows the run, too, although somebody listens.
            fetch: calls the app's function ``fetch``, before several containers want the base model.
            encode_shares: maps the app's function ``encode`` over requests, each in a container of its own.
        """

        def work(app: ContainerApplication) -> dict[str, Any]:
            job = from_wire(TrainJob, request["job"])
            if request["encode_shards"] > 1:
                raise_remote_error(fetch({"base_model": job.base_model}))
                _fan_out(app, job, request["encode_shards"], encode_shares)
            log = TrainingLines(print).on_event if self.queue is None or request.get("log") else None
            observer = QueueObserver(app.updates, log)
            trainer = evolve(app.train_router(app.interruption), tool_version=request["tool_version"])
            return to_wire(trainer.train(job, observer))

        return self._answer(request, work)

    def fetch(self, request: dict[str, Any]) -> dict[str, Any]:
        """Download a base model into the cache, unless it is there."""

        def work(app: ContainerApplication) -> dict[str, Any]:
            with app.progress.track("Downloading the base model", None):
                app.fetch_base(request["base_model"])
            return {}

        return self._answer(request, work)

    def encode(self, request: dict[str, Any]) -> dict[str, Any]:
        """Encode one share of a job's prompts into the feature cache."""

        def work(app: ContainerApplication) -> dict[str, Any]:
            job = from_wire(TrainJob, request["job"])
            return to_wire(app.encode_share()(job, request["share"], request["shares"]))

        return self._answer(request, work)

    def evaluate(self, request: dict[str, Any]) -> dict[str, Any]:
        """Score a router, and keep the figures on the output volume."""

        def work(app: ContainerApplication) -> dict[str, Any]:
            from entrypoints.reports.evaluation import as_text, as_values
            from entrypoints.reports.printing import json_bytes

            report = ContainerBackend(app).evaluate(from_wire(Evaluation, request))
            app.write_file(EVALUATION, json_bytes(as_values(report)))
            if app.updates.queue is None and request.get("log", True):
                print(f"{as_text(report)}\nSaved {EVALUATION}")
            return to_wire(report)

        return self._answer(request, work)

    def infer(self, request: dict[str, Any]) -> dict[str, Any]:
        """Route prompts, and answer them unless only routing is asked for."""

        def work(app: ContainerApplication) -> dict[str, Any]:
            asked, here = from_wire(Questions, request), ContainerBackend(app)
            if request.get("route_only"):
                return to_wire(RemoteAnswers(decisions=tuple(here.route(asked))))
            answers: dict[int, Answer] = {}
            stream = here.answering(asked).stream(AnswerRequest(asked.prompts, asked.options, asked.policy))
            for index, answer in stream:
                if isinstance(answer, MoeRouterError):
                    raise answer
                app.updates.send({"kind": "answer", "index": index, **to_wire(answer)})
                answers[index] = answer
            return to_wire(RemoteAnswers(answers=tuple(answers[index] for index in range(len(asked.prompts)))))

        return self._answer(request, work)

    def _answer(
        self, request: dict[str, Any], work: Callable[[ContainerApplication], dict[str, Any]]
    ) -> dict[str, Any]:
        set_up_logs()  # unconfigured, structlog would print debug lines into the remote log
        app = ContainerApplication(
            updates=Updates(self.queue),
            volumes=self.volumes,
            encode_batch=request.get("encode_batch"),
            max_batch=request.get("max_batch"),
        )
        app.updates.send({"kind": "started", "container": os.environ.get("MODAL_TASK_ID", "")}, now=True)
        app.volumes.reload()
        try:
            with app.interruption():
                result = work(app)
        except InterruptedRunError as error:
            raise KeyboardInterrupt from error  # Modal starts the input again in another container
        except MoeRouterError as error:
            result = error_to_wire(_with_data_sets(error))
        except Exception as error:
            traceback.print_exc()  # into the remote log: Modal would repeat a call that raises, and bugs stay bugs
            result = bug_to_wire(error)
        finally:
            app.volumes.commit()
        app.updates.send({"kind": "finished"}, now=True)
        return result


def _fan_out(app: ContainerApplication, job: TrainJob, shares: int, encode: Callable[..., Iterable[Any]]) -> None:
    requests = [
        {"job": to_wire(job), "share": share, "shares": shares, "encode_batch": app.encode_batch}
        for share in range(shares)
    ]
    with app.progress.track(f"Encoding prompts in {shares} containers", shares) as task:
        for result in encode(requests):
            raise_remote_error(result)
            from_wire(EncodeReport, result)
            task.advance()
    app.volumes.reload()


def _with_data_sets(error: MoeRouterError, folder: Path = THERE.dataset.parent) -> MoeRouterError:
    """Return the error; when it is about a data set that is not there, with those that are."""
    if not isinstance(error, MissingFileError) or not (error.where or "").startswith(f"{folder}/"):
        return error
    found = sorted(path.parent.name for path in folder.glob("*/train.jsonl"))
    return MissingFileError(error.what, where=error.where, hint=f"data sets there: {', '.join(found) or 'none'}")
