"""Modal as a place to run: containers with a GPU do the work, this process follows them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from attrs import evolve, frozen

from domain.errors import UsageError
from entrypoints.backend import Evaluation, Questions, StartedRun, Where, setting
from entrypoints.on_modal.places import THERE
from entrypoints.on_modal.wiring import ModalParts
from entrypoints.settings import Places, Training
from entrypoints.version import tool_version

if TYPE_CHECKING:  # every command pays for what is imported here
    from adapters.modal_cloud.modal_answering import ModalAnswering
    from adapters.modal_cloud.modal_gpu_trainer import ModalGpuTrainer
    from application.answering.answer_prompts import AnswerRequest
    from application.ports import TrainingObserver, TrainJob, TrainReport
    from application.routing.evaluate_router import EvaluateReport
    from domain.routing import RoutingDecision

Report = TypeVar("Report")


def open_backend(app: ModalParts, where: Where) -> ModalBackend:
    """Return Modal as a backend; nothing is contacted before it is used."""
    return ModalBackend(app, where)


@frozen(eq=False)
class ModalBackend:
    """A :class:`entrypoints.backend.Backend` whose work the app's functions do; paths are their containers'.

    Attributes:
        app: knows how to call Modal.
        where: the options of the command line.
        places: where things are in a container.
    """

    app: ModalParts
    where: Where
    places: Places = THERE

    def train(self, request: Training, observer: TrainingObserver) -> TrainReport:
        """Train in a container."""
        return self._trainer().train(self._job(request), observer)

    def start(self, request: Training) -> StartedRun:
        """Start a run in a container and leave it to itself."""
        job = self._job(request)
        started = self._trainer().start(job)
        follow = f"modal app logs {started.app_id}"
        return StartedRun(started.call_id, started.app_id, job.router_out, follow, self.fetch_command(job.router_out))

    def fetch_command(self, router: Path) -> str:
        """Return the command that brings a router here."""
        return f"moe-router download {router.name}"

    def evaluate(self, request: Evaluation) -> EvaluateReport:
        """Score in a container, which keeps the figures on its volume as well."""
        from application.routing.evaluate_router import EvaluateReport

        return self._call("evaluate", request, EvaluateReport)

    def check(self, questions: Questions) -> None:
        """Raise UsageError for images: they would have to travel; all else is checked there."""
        if any(prompt.images for prompt in questions.prompts):
            raise UsageError(
                "images cannot be sent to Modal", hint="answer prompts with images here, with --backend local"
            )

    def route(self, questions: Questions) -> Sequence[tuple[str, RoutingDecision]]:
        """Route in a container."""
        from adapters.modal_cloud.modal_answering import RemoteAnswers

        self.check(questions)
        return self._call("infer", questions, RemoteAnswers, route_only=True).decisions

    def answering(self, questions: Questions) -> ModalAnswering:
        """Return answering in a container, which loads everything when it is asked."""
        from adapters.modal_cloud.modal_answering import ModalAnswering
        from adapters.modal_cloud.modal_wire import to_wire

        def ask(request: AnswerRequest) -> dict[str, Any]:
            asked = evolve(questions, prompts=request.prompts, options=request.options)
            self.check(asked)
            return to_wire(asked)

        return ModalAnswering(self.app.modal_jobs(self.where), self.app.progress, ask)

    def setting(self, questions: Questions) -> str:
        """Return a hash over the paths and options; what lies at the paths is not looked at."""
        return setting("modal", evolve(questions, prompts=()))

    def _trainer(self) -> ModalGpuTrainer:
        from adapters.modal_cloud.modal_gpu_trainer import ModalGpuTrainer

        return ModalGpuTrainer(
            self.app.modal_jobs(self.where),
            self.app.progress,
            tool_version(),
            self.where.encode_shards,
            self.app.settings.commit_seconds,
        )

    def _job(self, request: Training) -> TrainJob:
        return request.job(self.places, is_file=lambda _path: True)  # paths of a container are checked there

    def _call(self, function: str, request: object, report: type[Report], **more: Any) -> Report:
        from adapters.modal_cloud.modal_messages import Relay
        from adapters.modal_cloud.modal_wire import from_wire, to_wire

        with Relay(self.app.progress) as relay:
            result = self.app.modal_jobs(self.where).run(function, {**to_wire(request), **more}, relay)
        return from_wire(report, result)
